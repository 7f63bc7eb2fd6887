"""Runs put together over their seeds: one row a configuration. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcli.engine.record import Record, flatten, read_config, run_name
from tfcli.engine.summary import PREFERRED, Found
from tfcli.engine.tables import lower_is_better, number, spread
from tfcli.errors import RunError, nearest

LOCAL = ("run.", "logger", "wandb.", "data.root", "data.workers", "trainer.threads")
"""Settings that say where and how a run was made, not what it is."""


def settings(record: Record) -> dict[str, str]:
    """What was typed for a run, but its seed and what only says where it ran: the name of its configuration."""
    typed = dict(text.lstrip("+").partition("=")[::2] for text in record.overrides if "=" in text)
    return {k: v for k, v in typed.items() if k not in ("seed", "model", "data") and not k.startswith(LOCAL)}


def group(found: Found, *, metrics: Sequence[str] = ()) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Runs of one configuration put together: everything equal but the seed.

    Returns:
        headings (key -> heading), and a row a configuration, the best first: its model, data, settings, n, seeds, runs
        and `metrics`, for each name its mean, std, n, best and best_run.

    Raises RunError, with the nearest name, for a metric that no run has.
    """
    names = {name for _, record in found for name in record.metrics}
    for metric in metrics:
        if found and metric not in names:
            raise RunError(f"no run has a metric `{metric}`.{nearest(metric, sorted(names))}")
    if not metrics:
        first = next((m for m in PREFERRED if m in names), None)
        metrics = [m for m in (first, "test/loss") if m in names and m is not None]
    groups: dict[str, Found] = {}
    for folder, record in found:
        groups.setdefault(_identity(folder, record), []).append((folder, record))
    rows = [_group_row(members, metrics) for members in groups.values()]
    if rows and metrics:
        sign = 1 if lower_is_better(metrics[0]) else -1
        rows.sort(key=lambda row: sign * row["metrics"].get(metrics[0], {"mean": sign * math.inf})["mean"])
    typed = list(dict.fromkeys(key for row in rows for key in row["settings"]))
    varying = [k for k in typed if len({row["settings"].get(k) for row in rows}) > 1]
    columns = {"model": "model", "data": "data", **{k: k for k in varying}, "n": "n"}
    columns |= {metric: metric for metric in metrics}
    columns |= {f"best {metric}": "best" for metric in metrics[:1]}
    return columns, rows


def _identity(folder: Path, record: Record) -> str:
    flat = flatten(read_config(folder)) or settings(record)
    kept = {k: v for k, v in flat.items() if k != "seed" and not k.endswith(".seed") and not k.startswith(LOCAL)}
    return repr((record.verb, record.model, record.data, sorted(kept.items(), key=lambda item: item[0])))


def _group_row(members: Found, metrics: Sequence[str]) -> dict[str, Any]:
    first = members[0][1]
    summary: dict[str, Any] = {}
    for metric in metrics:
        values = [record.metrics.get(metric, math.nan) for _, record in members]
        lower = lower_is_better(metric)
        if (found := spread(values, lower_is_better=lower)) is not None:
            best = next(folder for (folder, _), v in zip(members, values, strict=True) if v == found.best)
            summary[metric] = {"mean": found.mean, "std": found.std, "n": found.n, "best": found.best}
            summary[metric]["best_run"] = run_name(best)
    return {
        "verb": first.verb,
        "model": first.model,
        "data": first.data,
        "settings": settings(first),
        "n": len(members),
        "seeds": sorted({record.seed for _, record in members}),
        "metrics": summary,
        "runs": [run_name(folder) for folder, _ in members],
    }


def csv_columns(columns: dict[str, str]) -> dict[str, str]:
    """The headings of `group` with the deviation as a column of its own, each under its key."""
    wide: dict[str, str] = {}
    for key in columns:
        wide[key] = key
        if "/" in key and not key.startswith("best "):
            wide[f"{key} std"] = f"{key} std"
    return wide


def flat_row(row: dict[str, Any], *, numbers: bool = False) -> dict[str, Any]:
    """A row of `group` as cells: `mean ± std` in one cell, or with `numbers` each in its own."""
    flat = {"model": row["model"], "data": row["data"], "n": row["n"], **row["settings"]}
    for name, found in row["metrics"].items():
        std = found["std"]
        flat[name] = found["mean"] if numbers or std is None else f"{number(found['mean'])} ± {number(std)}"
        flat[f"{name} std"] = std
        flat[f"best {name}"] = found["best"]
    return flat
