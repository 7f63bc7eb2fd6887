"""Learning-rate schedules: plain functions from the optimizer step to a factor on the base learning rate.

Arguments are the step (from 0), the number of all steps (`total`) and of steps in an epoch (`epoch`); the others come
from `conf/schedule/`. `warmup` are the arguments of `warmup_factor`, with which every schedule begins.
"""

from __future__ import annotations

from math import cos, pi
from typing import Any

from tfcli.bounds import Count, Fraction, Natural, NotNegative, Positive


def warmup_factor(
    step: int,
    total: int,
    epoch: int,
    *,
    warmup_fraction: Fraction = 0.05,
    warmup_epochs: NotNegative | None = None,
    warmup_steps: Natural | None = None,
    start_fraction: Fraction = 0.0,
) -> tuple[float, int]:
    """Return the factor of a linear warm-up, which is 1 from its last step on, and its length in steps.

    Args:
        step, total, epoch: the step, the number of all steps, and of steps in an epoch.
        warmup_fraction: length as a share of all steps, if the others are not given.
        warmup_epochs: length in epochs.
        warmup_steps: length in steps, which takes precedence.
        start_fraction: share of the learning rate at which the warm-up begins.
    """
    length = warmup_steps
    if length is None:
        length = round(warmup_epochs * epoch if warmup_epochs is not None else warmup_fraction * total)
    return start_fraction + (1 - start_fraction) * (step + 1) / length if step < length else 1.0, length


def _progress(step: int, total: int, length: int) -> float:
    """Return the share of the steps after the warm-up that are done, from 0 to 1."""
    return max(0.0, min(1.0, (step - length) / max(1, total - length)))


def cosine(step: int, *, total: int, epoch: int, final_fraction: Fraction = 0.0, **warmup: Any) -> float:
    """Return half a cosine from 1 down to `final_fraction` (Loshchilov & Hutter 2017, without restarts)."""
    factor, length = warmup_factor(step, total, epoch, **warmup)
    return factor * (final_fraction + (1 - final_fraction) * (1 + cos(pi * _progress(step, total, length))) / 2)


def linear(step: int, *, total: int, epoch: int, final_fraction: Fraction = 0.0, **warmup: Any) -> float:
    """Return a straight line from 1 down to `final_fraction`."""
    factor, length = warmup_factor(step, total, epoch, **warmup)
    return factor * (1 - (1 - final_fraction) * _progress(step, total, length))


def step(
    step: int,
    *,
    total: int,
    epoch: int,
    every_epochs: Count = 5,
    factor: Positive = 0.1,
    warmup_fraction: Fraction = 0.0,
    **warmup: Any,
) -> float:
    """Return 1, multiplied by `factor` after every `every_epochs` epochs."""
    warm, _ = warmup_factor(step, total, epoch, warmup_fraction=warmup_fraction, **warmup)
    return warm * factor ** (step // (every_epochs * epoch))


def constant(step: int, *, total: int, epoch: int, warmup_fraction: Fraction = 0.0, **warmup: Any) -> float:
    """Return 1 after the warm-up."""
    return warmup_factor(step, total, epoch, warmup_fraction=warmup_fraction, **warmup)[0]


def inverse_sqrt(step: int, *, total: int, epoch: int, **warmup: Any) -> float:
    """Return the inverse square root of the step, scaled to 1 after the warm-up (Vaswani et al. 2017, equation 3).

    With a base learning rate of (D * warm-up steps)^-0.5 this is the paper's schedule.
    """
    factor, length = warmup_factor(step, total, epoch, **warmup)
    return factor * (max(1, length) / max(1, length, step + 1)) ** 0.5
