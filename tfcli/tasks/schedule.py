"""Learning-rate schedules: plain functions from the optimizer step to a factor on the base rate.

All take the step (from 0), the number of all steps and of steps in an epoch; the rest comes from `conf/schedule/`.
Warm-up is linear: the first step has 1/warmup of the rate, the last step of the warm-up all of it.
"""

from __future__ import annotations

from math import cos, pi


def _warmup(step: int, total: int, fraction: float, steps: int | None) -> tuple[float, float]:
    """The factor of the warm-up, and how far the rest of the run has come, from 0 to 1."""
    length = round(fraction * total) if steps is None else steps
    if step < length:
        return (step + 1) / length, 0.0
    return 1.0, min(1.0, (step - length) / max(1, total - length))


def cosine(
    step: int,
    *,
    total: int,
    epoch: int,
    warmup_fraction: float = 0.05,
    warmup_steps: int | None = None,
    final_fraction: float = 0.0,
) -> float:
    """Half a cosine from 1 down to `final_fraction` (Loshchilov & Hutter 2017, without restarts)."""
    warm, way = _warmup(step, total, warmup_fraction, warmup_steps)
    return warm * (final_fraction + (1 - final_fraction) * (1 + cos(pi * way)) / 2)


def linear(
    step: int,
    *,
    total: int,
    epoch: int,
    warmup_fraction: float = 0.05,
    warmup_steps: int | None = None,
    final_fraction: float = 0.0,
) -> float:
    """A straight line from 1 down to `final_fraction`."""
    warm, way = _warmup(step, total, warmup_fraction, warmup_steps)
    return warm * (1 - (1 - final_fraction) * way)


def step(
    step: int,
    *,
    total: int,
    epoch: int,
    warmup_fraction: float = 0.0,
    warmup_steps: int | None = None,
    every_epochs: int = 5,
    factor: float = 0.1,
) -> float:
    """Times `factor` every `every_epochs` epochs."""
    warm, _ = _warmup(step, total, warmup_fraction, warmup_steps)
    return warm * factor ** (step // (every_epochs * epoch))


def constant(
    step: int, *, total: int, epoch: int, warmup_fraction: float = 0.0, warmup_steps: int | None = None
) -> float:
    """1 after the warm-up."""
    return _warmup(step, total, warmup_fraction, warmup_steps)[0]
