"""Figures with 95 % intervals: proportions, means, ratios of sums, correlations, perplexities."""

from __future__ import annotations

from math import atanh, exp, sqrt, tanh

import numpy as np

from tfcli.shapes import Float

Z = 1.959964
"""Normal quantile of a two-sided 95 % interval."""
Figure = tuple[float, tuple[float, float]]
"""A value and the bounds of its 95 % interval."""
Figures = dict[str, Figure]
UNKNOWN: tuple[float, float] = (float("nan"), float("nan"))
"""In place of bounds that were not requested or could not be computed."""


def mean(values: Float[np.ndarray, "N"], *, low: float = -np.inf, high: float = np.inf) -> Figure:
    """Return the mean with its normal interval, limited to [low, high]."""
    return ratio(values, np.ones_like(values), low=low, high=high)


def ratio(
    top: Float[np.ndarray, "N"], bottom: Float[np.ndarray, "N"], *, low: float = -np.inf, high: float = np.inf
) -> Figure:
    """Return a ratio of sums over samples, with its interval by the delta method; 0 where the divisor is 0."""
    total, count = float(bottom.sum()), len(top)
    if not total:
        return 0.0, (max(low, 0.0), min(high, 1.0))
    value = float(top.sum()) / total
    spread = Z * sqrt(float(((top - value * bottom) ** 2).sum()) * count / max(1, count - 1)) / total
    return value, (max(low, value - spread), min(high, value + spread))


def perplexity(loss: Figure) -> Figure:
    """Return the exponential of a loss in nats, with its interval."""
    value, low, high = (exp(min(nats, 700.0)) for nats in (loss[0], *loss[1]))
    return value, (low, high)


def correlation(value: float, count: int, *, ranks: bool = False) -> Figure:
    """Return a correlation with its interval by Fisher's (1915) transform.

    Args:
        value: the correlation; NaN where one side is constant.
        count: number of pairs.
        ranks: whether it is Spearman's, with Bonett and Wright's (2000) variance, in place of Pearson's.
    """
    if not abs(value) < 1 or count < 4:
        return value, (-1.0, 1.0) if count < 4 or value != value else (value, value)
    half = Z * sqrt((1 + value**2 / 2 if ranks else 1.0) / (count - 3))
    return value, (tanh(atanh(value) - half), tanh(atanh(value) + half))


def mean_per_class(confusion: np.ndarray) -> Figure:
    """Return the mean accuracy of the classes that occur, with its normal 95 % interval.

    Args:
        confusion: (K, K) counts; rows are true classes.
    """
    seen, right = confusion.sum(1), np.diag(confusion)
    present = seen > 0
    share = right[present] / seen[present]
    smoothed = (right[present] + 2) / (seen[present] + 4)  # Agresti and Coull: small classes have no zero variance
    spread = Z * sqrt((smoothed * (1 - smoothed) / seen[present]).sum()) / present.sum()
    return limited(float(share.mean()), float(spread), 0, 1)


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927), which stays in [0, 1] and suits small counts."""
    share = hits / total
    centre = share + Z**2 / (2 * total)
    half = Z * sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    scale = 1 + Z**2 / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def limited(value: float, spread: float, low: float, high: float) -> Figure:
    """Return a value with the interval of `spread` on both sides, limited to [low, high]."""
    return value, (max(low, value - spread), min(high, value + spread))
