"""Two configurations on the same test images: the difference of their accuracies, and whether it may be chance.

Chance enters twice: another draw of test images, and another seed of training. Both are the same for the two
configurations (one test set; a seed fixes the order of the data), so what is looked at is the difference on each image
under each seed, d (S, N), a table with two crossed random factors:

    d[s, n] = difference + seed[s] + image[n] + rest[s, n]

Its mean squares give the variances of the factors, and so that of the mean over the table (Searle, Casella and
McCulloch 1992, section 4.3; for classifiers, Gallas et al. 2009 have the like for readers and cases):

    Var(mean) = image_ms / (S N) + max(0, seed_ms - rest_ms) / (S N)

The first part stands on N - 1 degrees of freedom, the second on S - 1; Satterthwaite's (1946) formula weighs the two.
With one seed nothing can be said of other seeds; then the exact test of McNemar (1947) asks about images alone.
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
        difference: ours less theirs, mean over images and seeds.
        low, high: its 95 % interval.
        p: how often so large a difference would come of equal configurations; two-sided.
        seeds, images: over how many.
    """

    difference: float
    low: float
    high: float
    p: float
    seeds: int
    images: int

    @property
    def tested(self) -> str:
        """Describe the test in words."""
        return "exact McNemar test" if self.seeds == 1 else "paired test over images and seeds"


def compare(ours: Float[np.ndarray, "S N"], theirs: Float[np.ndarray, "S N"]) -> Paired:
    """The paired test of one configuration against another.

    Args:
        ours, theirs: 1 where an image was got right under a seed, else 0; rows are the same seeds, columns the same
            images.

    Raises:
        ValueError: the two are of different shapes, or empty.
    """
    return compare_all([(ours, theirs)])[0]


def compare_all(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Paired]:
    """The paired tests of several configurations, each against the default: `ours` and `theirs` as in `compare`.

    Two or three seeds say little about the spread over seeds, and by chance often nothing. What all comparisons with as
    many seeds say together is steadier: each takes the larger of its own excess (`seed_ms - rest_ms`) and their mean.
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
    """McNemar's exact p: the images on which the two disagree fall to either side like a fair coin.

    Args:
        d: 1 where only ours is right, -1 where only theirs is, else 0.
    """
    from scipy.special import bdtr

    better, worse = int((d > 0).sum()), int((d < 0).sum())
    if better + worse == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5)))


def holm(p: Sequence[float]) -> list[float]:
    """p values of several comparisons, so raised that the chance of any false one stays below the level (Holm 1979)."""
    raised, running = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        raised[i] = running
    return raised
