"""Make the table of a sweep: a row for each configuration, mean and deviation over seeds, failed jobs with reasons."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tfcli.engine.runs.format import number, seconds, spread, to_csv, to_markdown
from tfcli.engine.runs.record import Record, finite, lower_is_better, read_record
from tfcli.engine.runs.summary import main_metric
from tfcli.files import write_atomic
from tfcli.sweeps.state import Job, State

COSTS = ("seconds", "examples_per_second", "peak_memory_bytes")


def summarize(folder: Path, state: State) -> dict[str, Any]:
    """Return the table as plain values.

    Returns:
        `keys` (swept, but seed), `metrics` (the main one first), `rows` (`settings`, `n`, `of`, `seeds`,
        `metrics` and `cost`: name -> mean, std, n; the best first), `failed` (job, overrides, error, log),
        `best` (of a search), and the numbers of jobs that are finished and in all.
    """
    records = {job.id: read_record(folder / job.name) for job in state.jobs if job.status == "finished"}
    declared = list(records.values())
    lower = {name: lower_is_better(name, declared) for name in _metrics(declared)}
    names = list(lower)
    keys = [key for key in state.swept if key != "seed"]
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in state.jobs:
        typed = dict(text.partition("=")[::2] for text in job.overrides)
        groups.setdefault(tuple(typed.get(key, "") for key in keys), []).append(job)
    rows = [_row(dict(zip(keys, values, strict=True)), jobs, records, lower) for values, jobs in groups.items()]
    if names:
        sign = 1 if lower[names[0]] else -1
        rows.sort(key=lambda row: sign * row["metrics"].get(names[0], {"mean": sign * math.inf})["mean"])
    return {
        "folder": str(folder),
        "keys": keys,
        "metrics": names,
        "rows": rows,
        "failed": [
            {
                "job": job.name,
                "overrides": job.overrides,
                "varied": [text for text in job.overrides if text.partition("=")[0] in state.swept],
                "error": job.error,
                "log": str(folder / f"{job.name}.log"),
            }
            for job in state.jobs
            if job.status == "failed"
        ],
        "best": state.search.get("best"),
        "finished": state.count("finished"),
        "jobs": len(state.jobs),
    }


def _metrics(records: list[Record]) -> list[str]:
    names = list(dict.fromkeys(name for record in records for name in record.metrics))
    main = {main_metric(record) for record in records}
    for split in ("test/", "val/", ""):
        kept = [name for name in names if name.startswith(split)]
        if kept:
            return sorted(kept, key=lambda name: (name not in main, lower_is_better(name, records)))
    return []


def _row(
    settings: dict[str, str], jobs: list[Job], records: dict[str, Record], lower: dict[str, bool]
) -> dict[str, Any]:
    found = [records[job.id] for job in jobs if job.id in records]
    return {
        "settings": settings,
        "n": len(found),
        "of": len(jobs),
        "seeds": sorted(record.seed for record in found),
        "metrics": _spreads(lower, [record.metrics for record in found]),
        "cost": _spreads(dict.fromkeys(COSTS, True), [record.cost for record in found]),
        "jobs": [job.name for job in jobs],
    }


def _spreads(lower: dict[str, bool], values: list[dict[str, float]]) -> dict[str, Any]:
    result = {}
    for name, less in lower.items():
        found = spread([v.get(name, math.nan) for v in values], lower_is_better=less)
        if found is not None:
            result[name] = {"mean": found.mean, "std": found.std, "n": found.n}
    return result


def columns(summary: dict[str, Any]) -> dict[str, str]:
    """Return the headings of the printed table: the main metric, its mean per class and the loss; table.csv has all
    metrics.
    """
    names = summary["metrics"]
    shown = [n for n in names if n in (names[0], f"{names[0]}_per_class") or n.endswith("/loss")]
    head = {key: key for key in summary["keys"]} or {"configuration": "configuration"}
    return {**head, **{name: name for name in shown}, "n": "n", "time": "time"}


def flat_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows as text: `mean ± std`, n (`2 of 3` where jobs are missing), mean time of a job."""
    rows = []
    for row in summary["rows"]:
        flat: dict[str, Any] = {**row["settings"]} or {"configuration": "all"}
        for name, found in row["metrics"].items():
            std = found["std"]
            flat[name] = number(found["mean"]) if std is None else f"{number(found['mean'])} ± {number(std)}"
        flat["n"] = row["n"] if row["n"] == row["of"] else f"{row['n']} of {row['of']}"
        flat["time"] = seconds(row["cost"].get("seconds", {}).get("mean"))
        rows.append(flat)
    return rows


def notes(summary: dict[str, Any]) -> list[str]:
    """Return the lines below the table: what the figures are, and the failed jobs."""
    lines = ["mean ± standard deviation over n seeds"] if any(row["of"] > 1 for row in summary["rows"]) else []
    return lines + notes_of(summary)


def notes_of(summary: dict[str, Any]) -> list[str]:
    """Return the best trial of a search, the failed and the unfinished jobs, in words."""
    lines = []
    if best := summary.get("best"):
        lines.append(best_in_words(best))
    if summary["failed"]:
        lines.append(f"{len(summary['failed'])} of {summary['jobs']} jobs failed:")
        lines += [
            f"- {job['job']}  {' '.join(job['varied'])}: {job['error']}  ({job['log']})" for job in summary["failed"]
        ]
    left = summary["jobs"] - summary["finished"] - len(summary["failed"])
    if left:
        lines.append(f"{left} of {summary['jobs']} jobs did not run to their end")
    return lines


def best_in_words(best: dict[str, Any]) -> str:
    """Return the best trial of a search as a line."""
    return f"best by {best['metric']}, {number(best['value'])}: {best['varied']}  ({best['job']})"


def write_files(folder: Path, summary: dict[str, Any], csv: str, markdown: str) -> dict[str, Any]:
    """Write table.json (the summary), table.csv and table.md; return the summary."""
    write_atomic(folder / "table.json", json.dumps(finite(summary), indent=1, ensure_ascii=False) + "\n")
    write_atomic(folder / "table.csv", csv)
    write_atomic(folder / "table.md", markdown)
    return summary


def write_tables(folder: Path, state: State) -> dict[str, Any]:
    """Write table.json, table.csv (means and deviations in full precision) and table.md; return the summary."""
    summary = summarize(folder, state)
    names = [*summary["metrics"], *COSTS]
    wide = {key: key for key in summary["keys"]} | {k: k for n in names for k in (n, f"{n} std")} | {"n": "n"}
    rows = []
    for row in summary["rows"]:
        flat = {**row["settings"], "n": row["n"]}
        for name, found in {**row["metrics"], **row["cost"]}.items():
            flat |= {name: found["mean"], f"{name} std": found["std"]}
        rows.append(flat)
    text = to_markdown(columns(summary), flat_rows(summary)) + "\n" + "\n".join(notes(summary)) + "\n"
    return write_files(folder, summary, to_csv(wide, rows), text)
