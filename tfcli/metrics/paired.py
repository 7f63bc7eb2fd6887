"""Paired test of two configurations on the same test images: the difference of their accuracies and its p value.

There are two sources of chance: the sample of test images, and the seed of training. Both are the same for the two
configurations (one test set; a seed fixes the order of the data), so the test uses the difference on each image for
each seed, d (S, N), a table with two crossed random factors:

    d[s, n] = difference + seed[s] + image[n] + rest[s, n]

Its mean squares estimate the variances of the factors, and so that of the mean over the table (Searle, Casella and
McCulloch 1992, section 4.3; Gallas et al. 2009 have a similar analysis of classifiers for readers and cases):

    Var(mean) = image_ms / (S N) + max(0, seed_ms - rest_ms) / (S N)

The first part has N - 1 degrees of freedom, the second S - 1; Satterthwaite's (1946) formula combines the two. One seed
gives no information about other seeds; then the exact test of McNemar (1947) considers images alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfcli.shapes import Float


@dataclass(frozen=True)
class Paired:
    """A difference of accuracies on the same images.

    Attributes:
        difference: ours minus theirs, mean over images and seeds.
        low, high: its 95 % interval.
        p: two-sided p value under the hypothesis of equal configurations.
        seeds, images: their numbers.
    """

    difference: float
    low: float
    high: float
    p: float
    seeds: int
    images: int

    @property
    def tested(self) -> str:
        """The name of the test."""
        return "exact McNemar test" if self.seeds == 1 else "paired test over images and seeds"


def compare(ours: Float[np.ndarray, "S N"], theirs: Float[np.ndarray, "S N"]) -> Paired:
    """Return the paired test of one configuration against another.

    Args:
        ours, theirs: 1 where an image is classified correctly with a seed, else 0; rows are the same seeds, columns the
            same images.

    Raises:
        ValueError: the two are of different shapes, or empty.
    """
    return compare_all([(ours, theirs)])[0]


def compare_all(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Paired]:
    """Return the paired tests of several configurations against the default, with `ours` and `theirs` as in `compare`.

    Two or three seeds estimate the variance over seeds poorly, often as zero. The mean over all comparisons is more
    stable: each test uses the larger of its own excess (`seed_ms - rest_ms`) and the mean excess.
    """
    tables = [_table(ours, theirs) for ours, theirs in pairs]
    excess = [t.excess for t in tables if t.seeds > 1]
    pooled = max(0.0, float(np.mean(excess))) if excess else 0.0
    freedom = sum(t.seeds - 1 for t in tables if t.seeds > 1) / 2  # halved: they share the default
    return [t.tested(pooled, max(freedom, t.seeds - 1.0)) for t in tables]


@dataclass(frozen=True)
class _Table:
    """Variance components from the mean squares of d (S, N)."""

    d: np.ndarray
    image_ms: float
    excess: float

    @property
    def seeds(self) -> int:
        return self.d.shape[0]

    def tested(self, pooled: float, pooled_freedom: float) -> Paired:
        from scipy.special import stdtr, stdtrit

        seeds, images = self.d.shape
        mean = float(self.d.mean())
        excess, freedom = max((self.excess, seeds - 1.0), (pooled, pooled_freedom)) if seeds > 1 else (0.0, 1.0)
        excess = max(0.0, excess)
        total = self.image_ms + excess
        if total == 0.0:
            return Paired(mean, mean, mean, 1.0 if mean == 0.0 else 0.0, seeds, images)
        freedom = total**2 / (self.image_ms**2 / max(images - 1, 1) + excess**2 / freedom)
        error = float(np.sqrt(total / self.d.size))
        p = mcnemar(self.d[0]) if seeds == 1 else float(2 * stdtr(freedom, -abs(mean) / error))
        half = float(stdtrit(freedom, 0.975)) * error
        return Paired(mean, max(-1.0, mean - half), min(1.0, mean + half), p, seeds, images)


def _table(ours: np.ndarray, theirs: np.ndarray) -> _Table:
    if ours.shape != theirs.shape or ours.ndim != 2 or not ours.size:
        raise ValueError(
            f"`ours` and `theirs` must be (S, N) of the same images, but are {ours.shape}, {theirs.shape}."
        )
    d = ours - theirs
    seeds, images = d.shape
    image_ms = seeds * float(d.mean(0).var(ddof=1)) if images > 1 else 0.0
    if seeds == 1:
        return _Table(d, image_ms, 0.0)
    rest = d - d.mean(0) - d.mean(1, keepdims=True) + d.mean()
    rest_ms = float((rest**2).sum()) / ((seeds - 1) * max(images - 1, 1))
    return _Table(d, max(image_ms, rest_ms), images * float(d.mean(1).var(ddof=1)) - rest_ms)


def mcnemar(d: Float[np.ndarray, "N"]) -> float:
    """Return McNemar's exact p value, under which each side is right on half of the images where the two disagree.

    Args:
        d: 1 where only ours is right, -1 where only theirs is, else 0.
    """
    from scipy.special import bdtr

    better, worse = int((d > 0).sum()), int((d < 0).sum())
    if better + worse == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5)))


def holm(p: Sequence[float]) -> list[float]:
    """Return p values adjusted for several comparisons, which control the family-wise error rate (Holm 1979)."""
    raised, running = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        raised[i] = running
    return raised
