"""The linear probe: logistic regression on frozen features, with C chosen on validation by warm-started fits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tfcli.errors import ConfigError, nearest
from tfcli.probes.logistic import Fit, Space, fit, predict
from tfcli.probes.scores import Figures, Split, checked, hold_out, joined, ranked, score
from tfcli.shapes import Float, Int

PER_DECADE = 8
"""Number of grid points in a decade."""
LOW, HIGH = -6 * PER_DECADE, 6 * PER_DECADE
"""The ends of the grid, 10^-6 and 10^6, as numbers of grid points."""
COARSE = 2 * PER_DECADE
"""First step of the search."""
COMPARED = 150
"""Largest number of steps of a fit during the search: beyond it the objective still falls, but not the accuracy."""
QUICK = 0.316
"""The value of C that CLIP's release uses for unnormalised ViT-B/32 features."""


@dataclass(frozen=True)
class Row:
    """One C of a sweep: its validation figure, and objective, gap and iterations of the fit."""

    C: float
    figure: float
    objective: float
    gap: float
    iterations: int


@dataclass(frozen=True)
class Sweep:
    """The C with the best validation figure (the smallest among equals), its fit, and a row for each C."""

    C: float
    fit: Fit
    rows: list[Row]


@dataclass(frozen=True)
class LinearResult:
    """Result of the linear probe.

    Args:
        C: chosen or given value of C.
        rows: the sweep, by C; empty where C was given.
        val: validation figures of the fit on train; None without a validation split.
        test: test figures of the final fit.
        fit: the final fit.
        carved: number of training samples held out for validation, where there is no such split; 0 otherwise.
        refitted: whether the final fit used validation as well.
        mean_norm: mean Euclidean norm of the training features, on which the strength of the penalty depends.
        seconds: time of all fits.
    """

    C: float
    rows: list[Row]
    val: Figures | None
    test: Figures
    fit: Fit
    carved: int
    refitted: bool
    mean_norm: float
    seconds: float


def sweep(
    features: Float[Tensor, "N D"] | Space,
    label: Int[Tensor, "N"],
    val: Split,
    *,
    num_classes: int,
    grid: str | Sequence[float] = "clip",
    select: str = "accuracy",
    max_iter: int = 1000,
    tol: float = 1e-4,
    progress: Callable[[Row], None] | None = None,
) -> Sweep:
    """Choose C on validation; each fit starts from the fit of the next smaller C.

    Args:
        features, label: the training split.
        val: the validation split.
        grid: `clip`, the CLIP paper's search (section A.3): 10^-6, 10^-4 ... 10^6, then the interval around the best
            is halved until the steps are an eighth of a decade, with at most 15 fits; or a list of values of C.
        select: `accuracy` or `per_class`. Among equal figures the smallest C is chosen.
        max_iter, tol: as for `fit`.
        progress: called with each row.

    Raises:
        ConfigError: unknown grid or figure.
    """
    if select not in ("accuracy", "per_class"):
        hint = nearest(select, ["per_class"])
        raise ConfigError(f"select must be `accuracy` or `per_class`, but is `{select}`.{hint}")
    if isinstance(grid, str) and grid != "clip":
        raise ConfigError(f"the grid must be `clip` or a list of values of C, but is `{grid}`.")
    space = features if isinstance(features, Space) else Space.of(features)
    fits: dict[float, Fit] = {}
    rows: dict[float, Row] = {}

    def try_value(C: float) -> None:
        below = [c for c in fits if c < C]
        start = fits[max(below)] if below else None
        fitted = fit(space, label, num_classes=num_classes, C=C, start=start, max_iter=max_iter, tol=tol)
        figures = score(ranked(predict(fitted, val[0])), val[1], num_classes=num_classes)
        fits[C] = fitted
        rows[C] = Row(C, figures.figure(select), fitted.objective, fitted.gap, fitted.iterations)
        if progress:
            progress(rows[C])

    def best() -> float:
        return max(sorted(rows), key=lambda C: rows[C].figure)

    if isinstance(grid, str):
        for place in range(LOW, HIGH + 1, COARSE):
            try_value(_on_grid(place))
        step = COARSE // 2
        while step:
            centre = round(PER_DECADE * math.log10(best()))
            for place in (centre - step, centre + step):
                if LOW <= place <= HIGH and _on_grid(place) not in rows:
                    try_value(_on_grid(place))
            step //= 2
    else:
        for C in sorted({float(C) for C in grid}):
            try_value(C)
    if not rows:
        raise ConfigError("the grid has no value of C.")
    return Sweep(best(), fits[best()], [rows[C] for C in sorted(rows)])


def linear(
    train: Split,
    val: Split | None,
    test: Split,
    *,
    num_classes: int,
    C: float | None = None,
    grid: str | Sequence[float] = "clip",
    select: str = "accuracy",
    refit: bool = True,
    val_fraction: float = 0.2,
    seed: int = 0,
    max_iter: int = 1000,
    tol: float = 1e-4,
    progress: Callable[[Row], None] | None = None,
) -> LinearResult:
    """Run the linear probe: choose C on validation, refit on train and validation, measure test once.

    The test split is used in the last step only.

    Args:
        train, val, test: features and labels. Without `val` a stratified part of train is held out, if C must be
            chosen.
        C: fixed value, such as `QUICK`, in place of a sweep.
        grid, select, max_iter, tol, progress: as for `sweep`.
        refit: whether the final fit uses validation as well as train.
        val_fraction, seed: size and seed of the held-out part.

    Raises:
        ConfigError: settings are invalid.
        DataError: a split is empty or not finite, its labels do not fit, or there are too few samples to hold some out.
    """
    train = checked("train", train, num_classes=num_classes)
    width = train[0].shape[1]
    test = checked("test", test, num_classes=num_classes, width=width)
    carved = 0
    if val is not None:
        val = checked("val", val, num_classes=num_classes, width=width)
    elif C is None:
        train, val = hold_out(train, fraction=val_fraction, seed=seed)
        carved = len(val[1])
    mean_norm = float(train[0].norm(dim=1).mean())
    begun = time.perf_counter()
    space = Space.of(train[0])
    options: dict[str, Any] = {"num_classes": num_classes, "max_iter": max_iter, "tol": tol}
    if C is None:
        assert val is not None
        looser = options | {"max_iter": min(max_iter, COMPARED)}
        found = sweep(space, train[1], val, grid=grid, select=select, progress=progress, **looser)
        final, rows = found.fit, found.rows
        if found.fit.iterations >= COMPARED and not (refit or carved):
            final = fit(space, train[1], C=final.C, start=final, **options)
    else:
        final, rows = fit(space, train[1], C=C, **options), []
    figures = None if val is None else score(ranked(predict(final, val[0])), val[1], num_classes=num_classes)
    refitted = val is not None and (refit or carved > 0)
    if val is not None and refitted:
        both, label = joined(train, val)
        final = fit(both, label, C=final.C, start=final, **options)
    return LinearResult(
        C=final.C,
        rows=rows,
        val=figures,
        test=score(ranked(predict(final, test[0])), test[1], num_classes=num_classes),
        fit=final,
        carved=carved,
        refitted=refitted,
        mean_norm=mean_norm,
        seconds=time.perf_counter() - begun,
    )


def _on_grid(place: int) -> float:
    """Return the value of C at a place of the grid."""
    return 10.0 ** (place / PER_DECADE)
