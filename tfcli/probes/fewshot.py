"""Few-shot linear probe: n training images of each class, with mean and deviation over several draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tfcli.data.common.counter_rng import hash64
from tfcli.errors import ConfigError, DataError
from tfcli.probes.linear import sweep
from tfcli.probes.logistic import Space, fit, predict
from tfcli.probes.scores import Figures, Split, checked, ranked, score
from tfcli.shapes import Int

GRID = (1e-2, 1e-1, 0.316, 1.0, 1e1, 1e2, 1e3)


@dataclass(frozen=True)
class Shot:
    """Result of a probe with n images of each class.

    Args:
        n: number of images of each class.
        mean, std: mean and sample standard deviation (n - 1) over the draws; NaN for one draw.
        draws: test figures of each draw.
        C: C of each draw.
    """

    n: int
    mean: float
    std: float
    draws: list[Figures]
    C: list[float]


def draw(label: Int[np.ndarray, "N"], *, n: int, seed: int, number: int) -> Int[np.ndarray, "n*K"]:
    """Return the sorted positions of n samples of each class that occurs.

    A draw with more samples contains the draw with fewer, since the order of the samples depends on seed and number
    alone.

    Raises:
        DataError: a class has fewer than n samples.
    """
    words = hash64(seed, "few shot", number, np.arange(len(label)))
    taken = []
    for c, size in zip(*np.unique(label, return_counts=True), strict=True):
        if size < n:
            raise DataError(f"few-shot with {n} images of each class: class {c} of train has {size}.")
        members = np.flatnonzero(label == c)
        taken.append(members[np.argsort(words[members], kind="stable")[:n]])
    return np.sort(np.concatenate(taken))


def few_shot(
    train: Split,
    val: Split | None,
    test: Split,
    *,
    num_classes: int,
    shots: Sequence[int] = (1, 2, 4, 8, 16),
    draws: int = 3,
    seed: int = 0,
    C: float | None = None,
    grid: str | Sequence[float] = GRID,
    select: str = "accuracy",
    progress: Callable[[Shot], None] | None = None,
) -> list[Shot]:
    """Fit on n images of each class, for each n and draw, and measure on test.

    Args:
        train, val, test: features and labels. The whole validation split chooses C for each draw; without it C is 1
            unless it is given.
        shots: values of n. A value is left out if some class has too few images.
        draws: number of draws for each n, which are seeded and nested.
        C: fixed value of C.
        grid: candidates for C, as for `sweep`.
        select: `accuracy` or `per_class`: the figure that chooses C, and of which mean and std are computed.
        progress: called with the result of each n.

    Raises:
        ConfigError: there are no draws, or n is less than 1.
        DataError: a class has fewer images than the smallest n, or a split cannot be used.
    """
    shots = sorted({int(n) for n in shots})
    if not shots or shots[0] < 1 or draws < 1:
        raise ConfigError(f"few-shot needs n of at least 1 and at least one draw, but got n = {shots}, {draws} draws.")
    train = checked("train", train, num_classes=num_classes)
    width = train[0].shape[1]
    test = checked("test", test, num_classes=num_classes, width=width)
    val = None if val is None else checked("val", val, num_classes=num_classes, width=width)
    label = train[1].cpu().numpy()
    results = []
    for n in feasible(label, shots):
        figures, chosen = [], []
        for number in range(draws):
            rows = torch.from_numpy(draw(label, n=n, seed=seed, number=number)).to(train[1].device)
            space, some = Space.of(train[0][rows]), train[1][rows]
            if C is None and val is not None:
                found = sweep(space, some, val, num_classes=num_classes, grid=grid, select=select).fit
            else:
                found = fit(space, some, num_classes=num_classes, C=1.0 if C is None else C)
            figures.append(score(ranked(predict(found, test[0])), test[1], num_classes=num_classes))
            chosen.append(found.C)
        values = [f.figure(select) for f in figures]
        spread = float(np.std(values, ddof=1)) if draws > 1 else math.nan
        results.append(Shot(n, float(np.mean(values)), spread, figures, chosen))
        if progress:
            progress(results[-1])
    return results


def feasible(label: Int[np.ndarray, "N"], shots: Sequence[int]) -> list[int]:
    """Return the values of n for which every class has enough images; the caller reports the others.

    Raises:
        DataError: there is no such value.
    """
    classes, sizes = np.unique(label, return_counts=True)
    fits = [n for n in shots if n <= sizes.min()]
    if not fits:
        raise DataError(
            f"few-shot with {min(shots)} images of each class: class {classes[sizes.argmin()]} of train has "
            f"{sizes.min()}."
        )
    return fits
