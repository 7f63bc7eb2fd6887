"""Make the table of a sweep of probes: a row for each head of every job, with published figure and protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tfcli.engine.config.configs import search_path
from tfcli.engine.runs.format import seconds, to_csv, to_markdown
from tfcli.engine.runs.terminal import say
from tfcli.errors import ConfigError, nearest
from tfcli.sweeps import table as plain
from tfcli.sweeps.state import State

COLUMNS = {"head": "head", "top1": "top-1  [95 %]", "per_class": "per class", "published": "published"}
COLUMNS |= {"difference": "ours - published", "protocol": "published protocol", "time": "time"}
WIDE = (
    *("head", "accuracy", "low", "high", "per_class", "top5", "published", "published_metric", "difference"),
    *("source", "protocol", "differs", "seconds"),
)


def suite_sets(name: str, config_dir: str | None = None) -> tuple[list[str], dict[str, str]]:
    """Return the data sets of `conf/suite/NAME.yaml`, and those missing from the published suite, with reasons.

    Raises:
        ConfigError: there is no such suite.
    """
    known: dict[str, Path] = {}
    for root in search_path(config_dir):
        for file in sorted((root / "suite").glob("*.yaml")):
            known.setdefault(file.stem, file)
    if name not in known:
        raise ConfigError(f"there is no suite `{name}`.{nearest(name, list(known))}  (there is {', '.join(known)})")
    values = yaml.safe_load(known[name].read_text(encoding="utf-8"))
    return list(values["data"]), dict(values.get("missing") or {})


def summarize(folder: Path, state: State) -> dict[str, Any]:
    """Return the rows of every finished job, in the jobs' order, and the failed ones with their reasons."""
    keys = list(state.swept)
    rows = []
    for job in state.jobs:
        file = folder / job.name / "table.json"
        if job.status != "finished" or not file.exists():
            continue
        typed = dict(text.partition("=")[::2] for text in job.overrides)
        settings = {key: typed.get(key, "") for key in keys}
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            say(f"skipped: `{file}` is torn or not JSON: {error}.")
            continue
        rows += [{**settings, **row, "job": job.name, "job_seconds": job.seconds} for row in found]
    rest = plain.summarize(folder, state)
    return {
        "folder": str(folder),
        "keys": keys,
        "rows": rows,
        **{k: rest[k] for k in ("failed", "best", "finished", "jobs")},
    }


def columns(summary: dict[str, Any]) -> dict[str, str]:
    """Return the headings: what was swept, then the heads' figures."""
    return {**{key: key for key in summary["keys"]}, **COLUMNS}


def flat_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows as text; a job's settings stand in its first row only."""
    rows, last = [], None
    for row in summary["rows"]:
        first, last = row["job"] != last, row["job"]
        kind = ", per class" if str(row["published_metric"]).endswith("per_class") else ""
        value, gap = row["published"], row["difference"]
        if isinstance(value, list):
            value = "-".join(f"{v:.2f}" for v in value)
        elif value is not None:
            value = f"{value:.3f}"
        rows.append(
            {
                **{key: row[key] if first else "" for key in summary["keys"]},
                "head": row["head"],
                "top1": f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
                "per_class": f"{row['per_class']:.3f}",
                "published": f"{value}{kind}" if value else "",
                "difference": "" if gap is None else f"{gap:+.3f}",
                "protocol": "; ".join(row[k] for k in ("source", "protocol", "differs") if row[k]),
                "time": seconds(row["job_seconds"]) if first else "",
            }
        )
    return rows


notes = plain.notes_of


def write_suite(folder: Path, state: State) -> dict[str, Any]:
    """Write table.json, table.csv and table.md; return the summary."""
    summary = summarize(folder, state)
    wide = to_csv({k: k for k in (*summary["keys"], *WIDE)}, summary["rows"])
    text = to_markdown(columns(summary), flat_rows(summary)) + "\n" + "\n".join(notes(summary)) + "\n"
    return plain.write_files(folder, summary, wide, text)
