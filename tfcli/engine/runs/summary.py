"""Turn records into rows: lists of runs, one run in full, and differences. No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcli.engine.runs import record as records
from tfcli.engine.runs.format import cell, number, seconds, size
from tfcli.engine.runs.record import Record, flatten, read_config, read_record, run_name
from tfcli.errors import RunError, nearest

Found = list[tuple[Path, Record]]
OF_BEFORE = (
    "test/bleu",
    "test/bits_per_char",
    "test/masked_accuracy",
    "test/spearman",
    "test/accuracy",
    "test/f1",
    "fewshot/accuracy",
    "linear/accuracy",
    "zeroshot/accuracy",
    "knn/accuracy",
    "test/image_to_text_r1",
    "val/accuracy",
    "test/loss",
    "val/loss",
)
"""Main figures of records that do not declare theirs: those made before `Record.main`."""


def main_metric(record: Record) -> str | None:
    """Return the metric to show when there is room for one: the declared one, of the test where there is a test."""
    main = record.main
    wanted = (f"test/{main}", f"val/{main}", main, "test/loss", "val/loss") if main else OF_BEFORE
    return next((name for name in wanted if name in record.metrics), next(iter(record.metrics), None))


def select(
    root: Path | str,
    *,
    model: str | None = None,
    data: str | None = None,
    status: str | None = None,
    verb: str | None = None,
    settings: Sequence[str] = (),
) -> Found:
    """Return the runs below `root` that fit all filters, the newest first. `settings` are `key=value` of their configs.

    Raises RunError for a setting that is not `key=value`.
    """
    wanted = [text.partition("=") for text in settings]
    for key, equals, _ in wanted:
        if not equals:
            raise RunError(f"`{key}` is no filter: filters are written key=value, for instance `model=vit seed=0`.")
    given = {"model": model, "data": data, "status": status, "verb": verb}
    found = []
    for folder, record in records.readable_records(records.all_runs(root)):
        if any(value and getattr(record, key) != value for key, value in given.items()):
            continue
        if wanted and not _has(folder, record, [(key, value) for key, _, value in wanted]):
            continue
        found.append((folder, record))
    return found


def of_one_verb(found: Found) -> tuple[Found, dict[str, int]]:
    """Return the runs of `train`, or those of the newest run's verb; and the number of runs of each other verb.

    A table compares settings, and `evaluate` of a run has the settings of its training.
    """
    counts = Counter(record.verb for _, record in found)
    verb = "train" if "train" in counts else next(iter(counts), "")
    kept = [(folder, record) for folder, record in found if record.verb == verb]
    return kept, {other: n for other, n in counts.items() if other != verb}


def _has(folder: Path, record: Record, wanted: Sequence[tuple[str, str]]) -> bool:
    flat = flatten(read_config(folder))
    named = {"model": record.model, "data": record.data, "verb": record.verb, "status": record.status}
    typed = dict(text.lstrip("+").partition("=")[::2] for text in record.overrides)
    return all(value in (str(named.get(k)), str(typed.get(k)), _text(flat.get(k))) for k, value in wanted)


def _text(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def sort_by(found: Found, metric: str) -> Found:
    """Return the runs that have `metric`, the best first. Raises RunError, with the nearest name, when none has."""
    names = {name for _, record in found for name in record.metrics}
    if found and metric not in names:
        raise RunError(f"no run has a metric `{metric}`.{nearest(metric, sorted(names))}")
    kept = [(run, record) for run, record in found if math.isfinite(record.metrics.get(metric, math.nan))]
    lower = records.lower_is_better(metric, [record for _, record in kept])
    return sorted(kept, key=lambda pair: pair[1].metrics[metric], reverse=not lower)


def interval(bounds: Sequence[float] | None) -> str:
    """Format a 95 % interval: `[0.942, 0.978]`; empty for None."""
    return f"[{number(bounds[0])}, {number(bounds[1])}]" if bounds else ""


def brief(folder: Path, record: Record, *, metric: str | None = None) -> dict[str, Any]:
    """Return one run as a row of `runs ls`."""
    metric = metric or main_metric(record)
    return {
        "run": run_name(folder),
        "path": str(folder),
        "started": records.started(folder),
        "verb": record.verb,
        "model": record.model,
        "data": record.data,
        "seed": record.seed,
        "status": record.status,
        "metric": metric,
        "score": record.metrics.get(metric) if metric else None,
        "interval": interval(record.intervals.get(metric or "")),
        "time": seconds(record.cost.get("seconds")),
        "error": record.error,
    }


def document(folder: Path, record: Record) -> dict[str, Any]:
    """Return one run as one JSON object: its record, its folder, its config and its files."""
    return {"run": str(folder), **record.to_json(), "config": read_config(folder), "files": files(folder)}


def files(folder: Path) -> dict[str, int]:
    """Return the files of a run with their sizes in bytes, without W&B's."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and "wandb" not in p.relative_to(folder).parts)
    return {str(p.relative_to(folder)): p.stat().st_size for p in found}


def headline(folder: Path, record: Record) -> list[str]:
    """Describe a run and how it ended in a few lines."""
    parts = [f"{record.model} on {record.data}", record.task, record.verb, record.status, f"seed {record.seed}"]
    if total := record.params.get("total"):
        parts.insert(2, f"{total:,} parameters")
    lines = [" · ".join(parts), str(folder)]
    typed = [text for text in record.overrides if not text.startswith("run.")]
    if typed:
        lines.append("overrides  " + " ".join(typed))
    if record.counts:
        lines.append("examples   " + "  ".join(f"{split} {count:,}" for split, count in record.counts.items()))
    if record.status == "unfinished":
        lines.append("unfinished: it is running, or was killed; `tfcli resume` goes on from its last checkpoint")
    if record.error:
        lines.append(f"error      {cell(record.error)}")
        lines.append(f"log        {folder / 'log.txt'}")
    return lines


def baselines(record: Record, metric: str) -> dict[str, float]:
    """Return what was measured beside a metric, by what it is of: chance, the most frequent class, a simple model."""
    split, _, figure = metric.partition("/")
    found = {}
    for key, value in record.baselines.items() if split not in ("train", "val") else ():
        what, _, name = key.partition("/")
        if key == "logistic_pixels":  # of records made before every baseline named its figure
            what, name = "logistic regression on pixels", "accuracy"
        if name in (figure, metric):
            found[what] = value
    return found


def metric_rows(record: Record) -> list[dict[str, Any]]:
    """Return the metrics of a run, the main one first, with what was published and measured beside it."""
    main = main_metric(record)
    names = sorted(record.metrics, key=lambda name: (name != main, not name.startswith("test/")))
    rows: list[dict[str, Any]] = []
    for name in names:
        row = {"metric": name, "value": record.metrics[name], "interval": interval(record.intervals.get(name))}
        info = records.figure_info(name, [record])
        row |= {"title": info.title, "better": "lower" if info.lower_is_better else "higher"}
        row["baseline"] = ", ".join(f"{number(value)} {what}" for what, value in baselines(record, name).items())
        if name == main and record.published:
            best = record.published[0]
            row |= {"published": best.get("value"), "source": best.get("source")}
        rows.append(row)
    return rows


def footer(folder: Path, record: Record) -> list[str]:
    """Return how published figures differ, the cost, and the files of a run."""
    lines = [f"published differs: {e['differs']}" for e in record.published[:1] if e.get("differs")]
    cost = record.cost
    parts = [seconds(cost.get("seconds")), size(cost.get("peak_memory_bytes"))]
    if rate := cost.get("examples_per_second"):
        parts.append(f"{rate:,.0f} examples/s")
    if any(parts):
        lines.append("cost       " + " · ".join(part for part in parts if part))
    if record.checkpoint:
        own = folder / record.checkpoint
        lines.append(f"weights    {own if own.exists() else record.checkpoint}")
    listed = files(folder)
    shown = [f"{name} ({size(count)})" for name, count in listed.items()]
    if shown:
        lines.append(
            "files      " + ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")
        )
    return lines


def config_differences(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the settings that differ between runs, `{"key", "values"}`: model, data and task, typed ones, the rest.

    Where a run keeps its files does not count, nor the class of a part whose option has another name as well.
    """
    flats = [flatten(read_config(folder)) for folder in folders]
    for flat in flats:
        flat |= {key.removeprefix("choices."): flat.pop(key) for key in list(flat) if key.startswith("choices.")}
    typed = {text.lstrip("+~").partition("=")[0] for folder in folders for text in read_record(folder).overrides}
    keys = list(dict.fromkeys(key for flat in flats for key in flat if not key.startswith("run.")))
    values = {key: [flat.get(key) for flat in flats] for key in keys}
    differing = {key: v for key, v in values.items() if any(value != v[0] for value in v[1:])}

    def named(key: str) -> bool:
        return key.endswith("._target_") and any(part in differing for part in key.split("."))

    first = ("model", "data", "task")
    order = sorted(differing, key=lambda key: first.index(key) if key in first else 3 if key in typed else 4)
    return [{"key": key, "values": differing[key]} for key in order if not named(key)]


def metric_differences(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the metrics of all runs, with each run's difference from the first and their 95 % intervals."""
    loaded = [read_record(folder) for folder in folders]
    names = list(dict.fromkeys(name for record in loaded for name in record.metrics))
    rows = []
    for name in names:
        values = [record.metrics.get(name) for record in loaded]
        bounds = [record.intervals.get(name) for record in loaded]
        first = values[0]
        differences = [None if v is None or first is None else v - first for v in values[1:]]
        rows.append({"metric": name, "values": values, "intervals": bounds, "differences": differences})
    return rows


def difference_row(row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a row of `metric_differences` as cells."""
    shown: dict[str, Any] = {"metric": row["metric"]}
    for name, value, bounds in zip(names, row["values"], row["intervals"], strict=True):
        shown[name] = "" if value is None else f"{number(value)} {interval(bounds)}".strip()
    for i, difference in enumerate(row["differences"], 2):
        sign = "+" if difference is not None and difference > 0 else ""
        shown[f"diff{i}"] = "" if difference is None else sign + number(difference)
    return shown
