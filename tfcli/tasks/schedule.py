"""Learning-rate schedules: plain functions from the optimizer step to a factor on the base rate.

All take the step (from 0), the number of all steps and of steps in an epoch; the rest comes from `conf/schedule/`.
Warm-up is linear from `start_fraction` of the rate: after its last step all of it is reached. Its length is
`warmup_steps`, else `warmup_epochs`, else `warmup_fraction` of all steps.
"""

from __future__ import annotations

from math import cos, pi

from tfcli.bounds import Count, Fraction, Natural, NotNegative, Positive


def _warmup(
    step: int, total: int, epoch: int, fraction: float, epochs: float | None, steps: int | None, start: float
) -> tuple[float, float]:
    """The factor of the warm-up, and how far the rest of the run has come, from 0 to 1."""
    length = _length(total, epoch, fraction, epochs, steps)
    if step < length:
        return start + (1 - start) * (step + 1) / length, 0.0
    return 1.0, min(1.0, (step - length) / max(1, total - length))


def _length(total: int, epoch: int, fraction: float, epochs: float | None, steps: int | None) -> int:
    """Steps of the warm-up."""
    return steps if steps is not None else round(epochs * epoch if epochs is not None else fraction * total)


def cosine(
    step: int,
    *,
    total: int,
    epoch: int,
    warmup_fraction: Fraction = 0.05,
    warmup_epochs: NotNegative | None = None,
    warmup_steps: Natural | None = None,
    start_fraction: Fraction = 0.0,
    final_fraction: Fraction = 0.0,
) -> float:
    """Half a cosine from 1 down to `final_fraction` (Loshchilov & Hutter 2017, without restarts)."""
    warm, way = _warmup(step, total, epoch, warmup_fraction, warmup_epochs, warmup_steps, start_fraction)
    return warm * (final_fraction + (1 - final_fraction) * (1 + cos(pi * way)) / 2)


def linear(
    step: int,
    *,
    total: int,
    epoch: int,
    warmup_fraction: Fraction = 0.05,
    warmup_epochs: NotNegative | None = None,
    warmup_steps: Natural | None = None,
    start_fraction: Fraction = 0.0,
    final_fraction: Fraction = 0.0,
) -> float:
    """A straight line from 1 down to `final_fraction`."""
    warm, way = _warmup(step, total, epoch, warmup_fraction, warmup_epochs, warmup_steps, start_fraction)
    return warm * (1 - (1 - final_fraction) * way)


def step(
    step: int,
    *,
    total: int,
    epoch: int,
    warmup_fraction: Fraction = 0.0,
    warmup_epochs: NotNegative | None = None,
    warmup_steps: Natural | None = None,
    start_fraction: Fraction = 0.0,
    every_epochs: Count = 5,
    factor: Positive = 0.1,
) -> float:
    """Times `factor` every `every_epochs` epochs."""
    warm, _ = _warmup(step, total, epoch, warmup_fraction, warmup_epochs, warmup_steps, start_fraction)
    return warm * factor ** (step // (every_epochs * epoch))


def constant(
    step: int,
    *,
    total: int,
    epoch: int,
    warmup_fraction: Fraction = 0.0,
    warmup_epochs: NotNegative | None = None,
    warmup_steps: Natural | None = None,
    start_fraction: Fraction = 0.0,
) -> float:
    """1 after the warm-up."""
    return _warmup(step, total, epoch, warmup_fraction, warmup_epochs, warmup_steps, start_fraction)[0]


def inverse_sqrt(
    step: int,
    *,
    total: int,
    epoch: int,
    warmup_fraction: Fraction = 0.05,
    warmup_epochs: NotNegative | None = None,
    warmup_steps: Natural | None = None,
    start_fraction: Fraction = 0.0,
) -> float:
    """Falls as one over the square root of the step, from 1 after the warm-up (Vaswani et al. 2017, equation 3).

    With a rate of (D * warm-up)^-0.5 this is the paper's.
    """
    warm, _ = _warmup(step, total, epoch, warmup_fraction, warmup_epochs, warmup_steps, start_fraction)
    if warm < 1:
        return warm
    length = _length(total, epoch, warmup_fraction, warmup_epochs, warmup_steps)
    return (max(1, length) / max(1, length, step + 1)) ** 0.5
