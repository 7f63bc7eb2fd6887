"""Group runs over their seeds: one row for each configuration. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcli.engine.runs.format import number, spread
from tfcli.engine.runs.record import Record, flatten, lower_is_better, read_config, run_name
from tfcli.engine.runs.summary import Found, main_metric
from tfcli.errors import RunError, nearest

LOCAL = ("run.", "logger", "wandb.", "data.root", "data.workers", "trainer.threads")
"""Settings that say where and how a run was made, not what it is."""


def typed(record: Record) -> dict[str, Any]:
    """Return what was typed for a run, but its seed and what only says where it ran."""
    words = dict(text.lstrip("+").partition("=")[::2] for text in record.overrides if "=" in text)
    return {k: v for k, v in words.items() if k not in ("seed", "model", "data") and not k.startswith(LOCAL)}


def settings(folder: Path, record: Record, keys: Sequence[str]) -> dict[str, Any]:
    """Return the value of each key in a run, typed or not: a default that was typed is still the default."""
    flat, words = flatten(read_config(folder)), typed(record)
    known = flat | {name.removeprefix("choices."): value for name, value in flat.items() if name.startswith("choices.")}
    return {key: known.get(key, words.get(key)) for key in keys}


def group(found: Found, *, metrics: Sequence[str] = ()) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Group runs that differ in their seed alone.

    Returns:
        headings (key -> heading), and a row a configuration: its model, data, settings, n, seeds, runs and `metrics`,
        for each name its mean, std, n, best and best_run. Where no metrics are asked for, each kind of run brings its
        main one; rows that have the same one stand together, the best first.

    Raises RunError, with the nearest name, for a metric that no run has.
    """
    names = {name for _, record in found for name in record.metrics}
    for metric in metrics:
        if found and metric not in names:
            raise RunError(f"no run has a metric `{metric}`.{nearest(metric, sorted(names))}")
    records = [record for _, record in found]
    if not metrics:
        main = [main_metric(record) for record in records]
        metrics = [m for m in dict.fromkeys([*main, "test/loss"]) if m in names and m is not None]
    groups: dict[str, Found] = {}
    for folder, record in found:
        groups.setdefault(_identity(folder, record), []).append((folder, record))
    keys = list(dict.fromkeys(key for record in records for key in typed(record)))
    lower = {metric: lower_is_better(metric, records) for metric in metrics}
    rows = [_group_row(members, keys, lower) for members in groups.values()]
    rows.sort(key=lambda row: _place(row, lower))
    varying = [k for k in keys if len({str(row["settings"][k]) for row in rows}) > 1]
    columns = {"model": "model", "data": "data", **{k: k for k in varying}, "n": "n"}
    columns |= {metric: metric for metric in metrics}
    columns |= {f"best {metric}": "best" for metric in metrics[:1]}
    return columns, rows


def _place(row: dict[str, Any], lower: dict[str, bool]) -> tuple[int, float]:
    """Return where a row stands: by the first metric that it has, then by its mean."""
    for place, (metric, less) in enumerate(lower.items()):
        if metric in row["metrics"]:
            return place, row["metrics"][metric]["mean"] * (1 if less else -1)
    return len(lower), 0.0


def _identity(folder: Path, record: Record) -> str:
    flat = flatten(read_config(folder)) or typed(record)
    kept = {k: v for k, v in flat.items() if k != "seed" and not k.endswith(".seed") and not k.startswith(LOCAL)}
    return repr((record.verb, record.model, record.data, sorted(kept.items(), key=lambda item: item[0])))


def _group_row(members: Found, keys: Sequence[str], lower: dict[str, bool]) -> dict[str, Any]:
    folder, first = members[0]
    summary: dict[str, Any] = {}
    for metric, less in lower.items():
        values = [record.metrics.get(metric, math.nan) for _, record in members]
        if (found := spread(values, lower_is_better=less)) is not None:
            best = next(folder for (folder, _), v in zip(members, values, strict=True) if v == found.best)
            summary[metric] = {"mean": found.mean, "std": found.std, "n": found.n, "best": found.best}
            summary[metric]["best_run"] = run_name(best)
    return {
        "verb": first.verb,
        "model": first.model,
        "data": first.data,
        "settings": settings(folder, first, keys),
        "n": len(members),
        "seeds": sorted({record.seed for _, record in members}),
        "metrics": summary,
        "runs": [run_name(folder) for folder, _ in members],
    }


def csv_columns(columns: dict[str, str]) -> dict[str, str]:
    """Return the headings of `group` with the deviation as a column of its own, each under its key."""
    wide: dict[str, str] = {}
    for key in columns:
        wide[key] = key
        if "/" in key and not key.startswith("best "):
            wide[f"{key} std"] = f"{key} std"
    return wide


def flat_row(row: dict[str, Any], *, numbers: bool = False) -> dict[str, Any]:
    """Return a row of `group` as cells: `mean ± std` in one cell, or with `numbers` each in its own."""
    flat = {"model": row["model"], "data": row["data"], "n": row["n"], **row["settings"]}
    for name, found in row["metrics"].items():
        std = found["std"]
        flat[name] = found["mean"] if numbers or std is None else f"{number(found['mean'])} ± {number(std)}"
        flat[f"{name} std"] = std
        flat[f"best {name}"] = found["best"]
    return flat
