"""Make the table of an ablation: mean and spread of each cell, its difference from the default cell, published figures.

Reads the sweep's folder alone (`ablation.json`, the jobs, their run folders), so that it can be written while jobs run.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfcli.engine.runs.format import number, seconds, size, spread, to_csv, to_markdown
from tfcli.engine.runs.paired import Outcomes, read_outcomes
from tfcli.engine.runs.record import Record, lower_is_better, read_json, read_record
from tfcli.sweeps import table as plain
from tfcli.sweeps.state import Job, State

if TYPE_CHECKING:
    from tfcli.metrics.paired import Paired

LEVEL = 0.01
"""Level of significance of a difference."""


def summarize(folder: Path, state: State) -> dict[str, Any]:
    """Return the table as plain values.

    Returns:
        what `ablation.json` says; `cells`, each with question, row, column, `na` (the reason), n, of, seeds, values,
        mean, std, difference, low, high, p, p_holm, differs, tested, published, params, seconds, memory, also; then
        `failed`, `finished`, `jobs` and `notes`.
    """
    facts = read_json(folder / "ablation.json")
    jobs = {job.id: job for job in state.jobs}
    published = {(row, column): value for row, column, value in (facts["published"] or {}).get("values", [])}
    cells = []
    for cell in facts["cells"]:
        found = _runs(folder, [jobs[i] for i in cell["ids"] if i in jobs])
        metric = facts["metrics"][cell["question"]]
        mine = facts["published"] and facts["published"]["question"] == cell["question"]
        cells.append(
            {
                **{key: cell[key] for key in ("question", "row", "column")},
                "na": cell["why"],
                "metric": metric,
                **_figures([record for _, record in found], metric, facts["also"]),
                "of": len(cell["ids"]),
                "published": published.get((cell["row"], cell["column"])) if mine else None,
                "jobs": [run.name for run, _ in found],
            }
        )
    for question in facts["metrics"]:
        _differences(folder, [c for c in cells if c["question"] == question], facts["default"])
    mine = {i for cell in facts["cells"] for i in cell["ids"]}
    rest = plain.summarize(folder, State(state.verb, [], state.swept, [j for j in state.jobs if j.id in mine]))
    summary = {**facts, "folder": str(folder), "cells": cells}
    summary |= {key: rest[key] for key in ("failed", "finished", "jobs")}
    summary["notes"] = notes(summary)
    return summary


def _runs(folder: Path, jobs: list[Job]) -> list[tuple[Path, Record]]:
    """Return the finished runs of a cell, ordered by seed."""
    found = [(folder / job.name, read_record(folder / job.name)) for job in jobs if job.status == "finished"]
    return sorted(found, key=lambda pair: pair[1].seed)


def _figures(records: list[Record], metric: str, also: list[str]) -> dict[str, Any]:
    lower = lower_is_better(metric, records)
    found = spread([record.metrics.get(metric, math.nan) for record in records], lower_is_better=lower)
    costs = {
        name: spread([float(record.cost.get(key, math.nan)) for record in records])
        for name, key in (("seconds", "seconds"), ("memory", "peak_memory_bytes"))
    }
    more = {name: spread([record.metrics.get(name, math.nan) for record in records]) for name in also}
    return {
        "n": found.n if found else 0,
        "seeds": [record.seed for record in records],
        "values": [record.metrics.get(metric) for record in records],
        "mean": found.mean if found else None,
        "std": found.std if found else None,
        "params": records[0].params.get("total") if records else None,
        **{name: cost.mean if cost else None for name, cost in costs.items()},
        "also": {name: {"mean": s.mean, "std": s.std} for name, s in more.items() if s},
        "metrics": {name: s for name, s in _curves(records).items()},
    }


def _curves(records: list[Record]) -> dict[str, float]:
    """Return the means over the runs of metrics whose names end in a number (`seconds/n=256`), from which curves are
    drawn.
    """
    names = dict.fromkeys(name for record in records for name in record.metrics if name.rpartition("=")[2].isdigit())
    means = {name: spread([record.metrics.get(name, math.nan) for record in records]) for name in names}
    return {name: found.mean for name, found in means.items() if found}


def _differences(folder: Path, cells: list[dict[str, Any]], default: list[str]) -> None:
    """Add to each cell its difference from the default cell, tested where both have outcomes on the same images."""
    from tfcli.metrics.paired import compare_all, holm

    empty = dict.fromkeys(("difference", "low", "high", "p", "p_holm", "tested"))
    for cell in cells:
        cell |= {**empty, "differs": False}
    base = next(cell for cell in cells if [cell["row"], cell["column"]] == default)
    others = [cell for cell in cells if cell is not base and cell["mean"] is not None and base["mean"] is not None]
    pairs = [(cell, pair) for cell in others if (pair := _pair(folder, cell, base)) is not None]
    for cell in others:
        cell["difference"] = cell["mean"] - base["mean"]
    tests: list[Paired] = compare_all([pair for _, pair in pairs]) if pairs else []
    for (cell, _), test, raised in zip(pairs, tests, holm([test.p for test in tests]), strict=True):
        cell |= {"difference": test.difference, "low": test.low, "high": test.high, "p": test.p, "p_holm": raised}
        cell |= {"tested": f"{test.tested}, {test.images:,} images, {test.seeds} seeds", "differs": raised < LEVEL}


def _pair(folder: Path, cell: dict[str, Any], base: dict[str, Any]) -> tuple[Any, Any] | None:
    """Return which samples (S, N) a cell and the default cell got right, for the seeds and samples that both have."""
    import numpy as np

    ours, theirs = (_outcomes(folder, each) for each in (cell, base))
    pairs = [(ours[s], theirs[s]) for s in ours if s in theirs and ours[s].same_images(theirs[s])]
    if not pairs or any(not a.same_images(pairs[0][0]) for a, _ in pairs):
        return None
    return tuple(np.array([pair[i].correct for pair in pairs], dtype=float) for i in (0, 1))  # type: ignore[return-value]


def _outcomes(folder: Path, cell: dict[str, Any]) -> dict[int, Outcomes]:
    """Return the outcomes of each seed whose figure is their mean: only such a figure can be tested by sample."""
    found = {}
    for seed, job, value in zip(cell["seeds"], cell["jobs"], cell["values"], strict=True):
        outcomes = read_outcomes(folder / job)
        if outcomes is not None and value is not None and math.isclose(outcomes.correct.mean(), value, abs_tol=1e-5):
            found[seed] = outcomes
    return found


def notes(summary: dict[str, Any]) -> list[str]:
    """Return the lines below the table: what the figures are, the source of published ones, impossible and failed
    cells.
    """
    cells = summary["cells"]
    default = " / ".join(part for part in summary["default"] if part)
    lines = []
    if any(cell["of"] > 1 for cell in cells):
        lines.append("mean ± standard deviation over n seeds")
    tested = [cell for cell in cells if cell["p"] is not None]
    if tested:
        most = max(sum(c["question"] == q for c in tested) for q in summary["metrics"])
        kinds = dict.fromkeys(cell["tested"].partition(",")[0] for cell in tested)
        lines.append(
            f"* differs from `{default}` on the same test images, p < {LEVEL} by {' or '.join(kinds)} "
            f"(Holm over {most} comparisons)"
        )
    elif any(cell["difference"] is not None for cell in cells):
        lines.append(f"differences are from `{default}`; nothing to test them with image by image")
    published = summary["published"]
    if published:
        lines.append(f"published: {' · '.join(published[k] for k in ('source', 'protocol') if published[k])}")
    if published and published["differs"]:
        lines.append(f"published differs: {published['differs']}")
    for why in dict.fromkeys(cell["na"] for cell in cells if cell["na"]):
        places = [f"{c['row']} / {c['column']}" for c in cells if c["na"] == why]
        lines.append(f"n/a: {', '.join(dict.fromkeys(places))}: {why}")
    return lines + plain.notes_of(summary)


# ---- for reading


def is_grid(summary: dict[str, Any]) -> bool:
    """Return whether the ablation has rows and columns."""
    return len(summary["axes"]) == 2


def grid_columns(summary: dict[str, Any]) -> dict[str, str]:
    """Return the headings of the grid: the ablation's columns, then the published ones."""
    head = {"question": "question"} if len(summary["metrics"]) > 1 else {}
    columns = dict.fromkeys(cell["column"] for cell in summary["cells"])
    given = dict.fromkeys(cell["column"] for cell in summary["cells"] if cell["published"] is not None)
    head |= {"row": summary["axes"][0], **{f"at {c}": c for c in columns}}
    return head | {f"published {c}": f"published {c}" for c in given}


def grid_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the grid: `mean ± std`, with a star where a cell differs from the default cell."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in summary["cells"]:
        place = (cell["question"], cell["row"])
        first = place[0] not in {question for question, _ in rows}
        row = rows.setdefault(place, {"question": place[0] if first else "", "row": cell["row"]})
        row[f"at {cell['column']}"] = "n/a" if cell["na"] else _score(cell)
        if cell["published"] is not None:
            row[f"published {cell['column']}"] = number(cell["published"])
    return list(rows.values())


def cell_columns(summary: dict[str, Any]) -> dict[str, str]:
    """Return the headings of the table that has one row for each cell."""
    shown = [cell for cell in summary["cells"] if not cell["na"]]
    metrics = list(dict.fromkeys(summary["metrics"].values()))
    head = {"question": "question"} if len(summary["metrics"]) > 1 else {}
    head |= dict(zip(("row", "column"), summary["axes"], strict=False))
    head |= {
        "score": metrics[0] if len(metrics) == 1 else "score",
        "n": "n",
        "difference": "difference  [95 %]",
        "p": "p",
    }
    head |= {name: name for name in summary["also"]}
    head |= {"published": "published", "params": "parameters", "memory": "memory", "time": "time"}
    rows = cell_rows(summary)
    kept = ("question", "row", "column", "score", "n")
    return {k: v for k, v in head.items() if k in kept or (shown and any(row.get(k) for row in rows))}


def cell_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the table that has one row for each cell."""
    rows, last = [], None
    for cell in summary["cells"]:
        if cell["na"]:
            continue
        first, last = cell["question"] != last, cell["question"]
        gap = cell["difference"]
        interval = "" if cell["low"] is None else f" [{cell['low']:+.3f}, {cell['high']:+.3f}]"
        rows.append(
            {
                "question": cell["question"] if first else "",
                "row": cell["row"],
                "column": cell["column"],
                "score": _score(cell),
                "n": cell["n"] if cell["n"] == cell["of"] else f"{cell['n']} of {cell['of']}",
                "difference": "" if gap is None else f"{gap:+.3f}{interval}",
                "p": "" if cell["p_holm"] is None else _p(cell["p_holm"]),
                "published": "" if cell["published"] is None else number(cell["published"]),
                "params": f"{cell['params']:,}" if cell["params"] else "",
                "memory": size(cell["memory"]) if cell["memory"] else "",
                "time": seconds(cell["seconds"]) if cell["seconds"] else "",
                **{name: number(found["mean"]) for name, found in cell["also"].items()},
            }
        )
    return rows


def _score(cell: dict[str, Any]) -> str:
    if cell["mean"] is None:
        return ""
    text = number(cell["mean"]) if cell["std"] is None else f"{number(cell['mean'])} ± {number(cell['std'])}"
    return f"{text} *" if cell["differs"] else text


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


# ---- files

WIDE = (
    *("question", "row", "column", "metric", "mean", "std", "n", "of", "difference", "low", "high", "p", "p_holm"),
    *("published", "params", "seconds", "memory", "na"),
)


def write_tables(folder: Path, state: State) -> dict[str, Any]:
    """Write table.json, table.csv (a row a cell, full precision), table.md and table.png; return the summary."""
    from tfcli.viz.ablation import ablation as draw

    summary = summarize(folder, state)
    flat = [{**c, **{name: s["mean"] for name, s in c["also"].items()}} for c in summary["cells"]]
    wide = to_csv({key: key for key in (*WIDE, *summary["also"])}, flat)
    parts = [f"# {summary['name']}, budget {summary['budget']}\n", f"{summary['description']}\n"]
    if is_grid(summary):
        parts.append(to_markdown(grid_columns(summary), grid_rows(summary)))
    parts.append(to_markdown(cell_columns(summary), cell_rows(summary)))
    parts.append("\n".join(f"- {note.removeprefix('- ')}" for note in summary["notes"]) + "\n")
    draw(summary, folder / "table.png")
    return plain.write_files(folder, summary, wide, "\n".join(parts))
