"""Heads on frozen features: classes that a node of the config names, each from its settings to rows of a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Literal, Protocol, cast, runtime_checkable

from tfcli.bounds import Count, Positive
from tfcli.engine.config.build import build
from tfcli.engine.probe import encoder
from tfcli.engine.probe.views import Views
from tfcli.errors import ConfigError
from tfcli.probes.fewshot import few_shot
from tfcli.probes.knn import knn
from tfcli.probes.linear import LinearResult, linear, sweep
from tfcli.probes.scores import Figures, Split, hold_out
from tfcli.viz import probe as figures


@dataclass
class Result:
    """One row of the table of a probe.

    Attributes:
        head: the name of its node in the config; with what tells rows of one head apart it is the metrics' prefix.
        title: the row's words.
        test: figures on the test split.
        metrics: what else goes into the record, by its whole name.
        series: numbers behind the row, for figures and the homework's report.
        notes: lines below the table.
    """

    head: str
    title: str
    test: Figures
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    series: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@runtime_checkable
class Head(Protocol):
    """Protocol of heads: fitted on, or compared with, frozen features; a node of `conf/probe.yaml` or a file of
    `conf/head/`.

    A head of one's own is a class below this one; its constructor takes the settings of its node. It is asked for by
    the name of its node: `heads=[linear,mine]`.

    Attributes:
        learns: whether it is fitted on training features; one that is not reads the test split alone.
    """

    learns: ClassVar[bool] = True

    def lacks(self, frozen: encoder.Frozen) -> str | None:
        """Return why this head cannot be had of a model; None where it can."""
        return None

    def __call__(self, views: Views) -> list[Result]:
        """Measure on the test split; returns the rows of the table."""
        ...

    def draw(self, rows: Sequence[Result], every: Sequence[Result], folder: Path, *, title: str) -> None:
        """Draw figures of this head's rows into a folder; `every` has the rows of all heads."""


def requested_heads(frozen: encoder.Frozen) -> dict[str, Head]:
    """Build the heads that were asked for and that the model allows, by the names of their nodes.

    Raises:
        ConfigError: a node's class is no head, or one head alone was asked for, and the model lacks what it needs.
    """
    config = frozen.job.config
    asked: dict[str, Head] = {str(name): build(config[str(name)]) for name in config.heads}
    for name, head in asked.items():
        if not isinstance(head, Head) or type(head).__call__ is Head.__call__:
            raise ConfigError(
                f"head `{name}`: `{config[name]._target_}` must be a class below `tfcli.engine.probe.heads.Head` with "
                "a method `__call__(self, views)` that returns a list of `Result`."
            )
    for name, head in list(asked.items()):
        if reason := head.lacks(frozen):
            if len(asked) == 1:
                raise ConfigError(reason)
            del asked[name]
    return asked


def fitted_on(views: Views, refitted: bool) -> str:
    """Return the images that a head was fitted on, for a note: rows of one table say whether they are the same."""
    counts = views.frozen.data.counts
    both = refitted and counts["val"]
    count = counts["train"] + (counts["val"] if both else 0)
    return f"train and validation ({count:,} images)" if both else f"train ({count:,} images)"


SCREEN = (0.01, 1.0, 100.0)
"""Values of C by which `auto` compares kinds of features before it sweeps with the best."""


@dataclass
class Linear(Head):
    """Logistic regression on frozen features, C chosen on validation."""

    features: Literal["auto", "projected", "pooled"] = "auto"
    normalise: Literal["auto", "both"] | bool = "auto"
    C: Positive | None = None
    grid: Literal["clip"] | list[Positive] = "clip"
    refit: bool = True
    metric: Literal["accuracy", "per_class"] = "accuracy"

    def __call__(self, views: Views) -> list[Result]:
        kinds = self._kinds(views)
        if self.normalise != "both" and len(kinds) > 1:
            kinds = [max(kinds, key=lambda kind: self._screened(views, *kind))]
        rows = []
        for projected, unit in kinds:
            began = time.monotonic()
            found = self._fit(views, projected, unit)
            name = {True: "linear/normalised", False: "linear/as_they_are"}[unit]
            name = name if self.normalise == "both" else "linear"
            words = [f"C = {found.C:.3g}", *(["projected"] if projected else []), *(["normalised"] if unit else [])]
            metrics = {f"{name}/C": found.C, f"{name}/mean_norm": found.mean_norm}
            if found.val is not None:
                metrics[f"{name}/val_accuracy"] = found.val.accuracy
            series = {
                "C": [(r.C, r.figure) for r in found.rows],
                "unit": unit,
                "val": found.val,
                "norm": found.mean_norm,
            }
            series["refitted"] = found.refitted
            seen = fitted_on(views, found.refitted)
            notes = [f"linear: fitted on {seen}; C = {found.C:.3g} at a mean feature length of {found.mean_norm:.3g}"]
            if found.carved:
                notes.append(
                    f"linear: no validation split, so C was chosen on {found.carved:,} images held out of train"
                )
            title = f"linear, {', '.join(words)}"
            rows.append(Result(name, title, found.test, time.monotonic() - began, metrics, series, notes))
        return rows

    def _kinds(self, views: Views) -> list[tuple[bool, bool]]:
        """Return the kinds of features to consider: (projected, normalised)."""
        spaces = {"auto": [False, True], "projected": [True], "pooled": [False]}[self.features]
        spaces = spaces if views.has_projection else [False]
        lengths = [False, True] if self.normalise in ("auto", "both") else [bool(self.normalise)]
        return [(projected, unit) for projected in spaces for unit in lengths]

    def _screened(self, views: Views, projected: bool, unit: bool) -> float:
        """Return the best validation figure of a kind of features over a few C, by fits that are stopped early."""
        train, val, _ = views.all(projected=projected, unit=unit)
        if val is None:
            train, val = hold_out(train, fraction=0.2, seed=views.frozen.job.config.seed)
        # At one C, features of length 1 are held back more strongly, by the square of their former length.
        long = cast(Split, views.split("train", projected=projected))[0]
        stretch = float(long.pow(2).sum(1).mean()) if unit else 1.0
        found = sweep(
            train[0],
            train[1],
            val,
            num_classes=views.frozen.data.num_classes,
            grid=[C * stretch for C in SCREEN],
            select=self.metric,
            max_iter=50,
        )
        return max(row.figure for row in found.rows)

    def _fit(self, views: Views, projected: bool, unit: bool) -> LinearResult:
        train, val, test = views.all(projected=projected, unit=unit)
        return linear(
            train,
            val,
            test,
            num_classes=views.frozen.data.num_classes,
            C=self.C,
            grid=self.grid,
            select=self.metric,
            refit=self.refit,
            seed=views.frozen.job.config.seed,
        )

    def draw(self, rows: Sequence[Result], every: Sequence[Result], folder: Path, *, title: str) -> None:
        if swept := {row.head: row.series for row in rows if row.series["C"]}:
            figures.against_penalty(swept, folder / "linear.png", title)


@dataclass
class Neighbours(Head):
    """k nearest neighbours among frozen features, K chosen on validation."""

    features: Literal["projected", "pooled"] = "projected"
    ks: list[Count] = field(default_factory=lambda: [1, 3, 5, 7, 11, 21])
    vote: Literal["majority", "weighted"] = "majority"
    temperature: Positive = 0.07
    select: Literal["val", "test"] = "val"
    refit: bool = True

    def __call__(self, views: Views) -> list[Result]:
        began = time.monotonic()
        projected = self.features == "projected" and views.has_projection
        train, val, test = views.all(projected=projected)
        found = knn(
            train,
            val,
            test,
            num_classes=views.frozen.data.num_classes,
            ks=self.ks,
            weighted=self.vote == "weighted",
            temperature=self.temperature,
            select=self.select,
            refit=self.refit,
            seed=views.frozen.job.config.seed,
        )
        metrics = {"knn/best_k": float(found.k)}
        metrics |= {f"knn/k={k}/accuracy": of_k.accuracy for k, of_k in found.test.items()}
        ks = ",".join(map(str, found.test))
        notes = [] if self.select == "val" else ["kNN: K is the best on the test split itself (knn.select=test)"]
        if self.select == "val":
            shown = " · ".join(f"{k}: {f.accuracy:.3f}" for k, f in found.test.items())
            notes.append(f"kNN, test accuracy by K: {shown}")
        series = {
            "test": [(k, f.accuracy) for k, f in found.test.items()],
            "val": [(k, f.accuracy) for k, f in found.val.items()],
            "best_k": found.k,
            "refitted": found.refitted,
        }
        notes.append(f"kNN: the neighbours are of {fitted_on(views, found.refitted)}")
        title = f"kNN, K = {found.k} of {ks}" + (", weighted" if self.vote == "weighted" else "")
        return [Result("knn", title, found.test[found.k], time.monotonic() - began, metrics, series, notes)]

    def draw(self, rows: Sequence[Result], every: Sequence[Result], folder: Path, *, title: str) -> None:
        for row in rows:
            figures.against_neighbours(row.series, folder / "knn.png", title)


@dataclass
class FewShot(Head):
    """Logistic regression on a few training images of each class, over several draws of them."""

    shots: list[Count] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    draws: Count = 3

    def __call__(self, views: Views) -> list[Result]:
        began = time.monotonic()
        train, val, test = views.all()
        rows = few_shot(
            train,
            val,
            test,
            num_classes=views.frozen.data.num_classes,
            shots=self.shots,
            draws=self.draws,
            seed=views.frozen.job.config.seed,
        )
        took = (time.monotonic() - began) / max(1, len(rows))
        left_out = [n for n in self.shots if n not in [row.n for row in rows]]
        notes = [f"few-shot: some class has fewer than {n} training images" for n in left_out[:1]]
        return [
            Result(
                f"fewshot/n={row.n}",
                f"{row.n}-shot linear, mean of {len(row.draws)} draws",
                row.draws[0],
                took,
                {f"fewshot/n={row.n}/std": row.std},
                {"mean": row.mean, "std": row.std, "n": row.n, "per_class": fmean(d.per_class for d in row.draws)},
                notes,
            )
            for row in rows
        ]

    def draw(self, rows: Sequence[Result], every: Sequence[Result], folder: Path, *, title: str) -> None:
        zero = next((row.test.accuracy for row in every if row.head == "zeroshot"), None)
        figures.against_shots([row.series for row in rows], zero, folder / "fewshot.png", title)
