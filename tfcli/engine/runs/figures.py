"""Draw what runs have written: curves, confusion, scores by length. Imports no torch."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcli.engine.runs.paired import NAME, read_outcomes
from tfcli.engine.runs.record import (
    Record,
    figure_info,
    lower_is_better,
    read_config,
    read_metrics,
    read_record,
    run_name,
)
from tfcli.errors import RunError, nearest


def curves_of(run: Path, path: Path) -> dict[str, Any]:
    """Draw a run's learning curves. Returns the numbers.

    Raises:
        RunError: it has logged nothing.
    """
    from tfcli.viz.curves import curves

    rows = read_metrics(run / "metrics.csv")
    if not rows:
        raise RunError(f"`{run}` has no curves: there is nothing in its metrics.csv.")
    trainer = read_config(run).get("trainer") or {}
    record, monitor = read_record(run), str(trainer.get("monitor") or "val/accuracy")
    return curves(rows, path, monitor=monitor, lower_is_better=lower_is_better(monitor, [record]), title=_title(record))


def confusion_of(run: Path, path: Path) -> dict[str, Any]:
    """Draw a classifier's confusion on its test samples. Returns the numbers.

    Raises:
        RunError: the run has tested no classifier.
    """
    from tfcli.viz.confusion import confusion

    outcomes = read_outcomes(run)
    if outcomes is None:
        raise RunError(f"`{run}` has tested no classifier: it has no {NAME}. `tfcli evaluate {run}` may make one.")
    names = _class_names(run)
    size = len(names) or 1 + int(max(outcomes.label.max(), outcomes.guess.max()))
    cells = Counter(zip(outcomes.label.tolist(), outcomes.guess.tolist(), strict=True))
    matrix = [[cells[i, j] for j in range(size)] for i in range(size)]
    return confusion(matrix, path, names=names or None, title=f"{_title(read_record(run))}, test")


def lengths_of(runs: Sequence[Path], path: Path, *, score: str | None) -> dict[str, Any]:
    """Draw test scores of several runs against the length of the source. Returns the points of each.

    Args:
        score: bleu, exact_match, or another figure that is given by length; None: the first that the first run has.

    Raises:
        RunError: a run has no figures by length, or not this one.
    """
    from tfcli.viz.lengths import lengths

    records = {run: read_record(run) for run in runs}
    for run, record in records.items():
        known = _by_length(record)
        score = score or next(iter(known), None)
        if score not in known:
            given = f"only {', '.join(known)}" if known else "no figures by length; translators have them"
            raise RunError(f"`{run}` has {given}.{nearest(score or '', known)}")
    assert score is not None
    names = _labels(records)
    points = {names[run]: _by_length(record)[score] for run, record in records.items()}
    data = " and ".join(dict.fromkeys(record.data for record in records.values()))
    return lengths(points, path, score=figure_info(f"test/{score}", records.values()).title, title=f"{data}, test")


def _by_length(record: Record) -> dict[str, list[tuple[float, float, float, float]]]:
    """Score -> (length, value, low, high)."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for name, value in record.metrics.items():
        head, _, length = name.partition("/length=")
        if length and head.startswith("test/"):
            low, high = record.intervals.get(name, (value, value))
            found.setdefault(head.removeprefix("test/"), []).append((float(length), value, low, high))
    return found


def _labels(records: dict[Path, Record]) -> dict[Path, str]:
    """Return a label for each run: its model, with the overrides that tell runs of one model apart."""
    names = {run: record.model for run, record in records.items()}
    for model, number in Counter(names.values()).items():
        same = [run for run, name in names.items() if name == model and number > 1]
        common = set.intersection(*(set(records[run].overrides) for run in same)) if same else set()
        for run in same:
            own = [o for o in records[run].overrides if o not in common and not o.startswith("run.")]
            names[run] = " ".join([model, *own])
    twice = {name for name, number in Counter(names.values()).items() if number > 1}
    return {run: f"{name} {run_name(run)}" if name in twice else name for run, name in names.items()}


def _class_names(run: Path) -> list[str]:
    """Return the class names in per_class.csv; none where there is no such file."""
    try:
        with open(run / "per_class.csv", encoding="utf-8", newline="") as file:
            return [row["class"] for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []


def _title(record: Record) -> str:
    return f"{record.model} on {record.data}"
