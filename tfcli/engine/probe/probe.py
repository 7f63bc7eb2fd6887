"""Run one probe: features once, every head on them, a table, a record, figures."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from tfcli.engine.config.build import plain
from tfcli.engine.config.compose import Composition
from tfcli.engine.probe import encoder
from tfcli.engine.probe.heads import Head, Result, requested_heads
from tfcli.engine.probe.views import Views
from tfcli.engine.runs.folder import (
    check_writable,
    list_skipped,
    locked,
    logged,
    relative_path,
    run_folder,
    say,
    write_start,
)
from tfcli.engine.runs.format import to_csv, to_markdown
from tfcli.engine.runs.lifecycle import recorded
from tfcli.engine.runs.published import gap, in_words, published_for
from tfcli.engine.runs.record import Record
from tfcli.engine.train.numerics import peak_memory
from tfcli.errors import ConfigError, DataError
from tfcli.files import write_atomic
from tfcli.metrics.info import FigureInfo
from tfcli.probes.scores import score
from tfcli.tasks.baselines.classes import chance, majority

COLUMNS = {"head": "head", "top1": "top-1  [95 %]", "per_class": "per class", "top5": "top 5"}
COLUMNS |= {"published": "published", "difference": "ours - published", "cost": "cost"}

FIGURES = {"accuracy": "accuracy", "accuracy_per_class": "per class", "accuracy_top5": "top 5"}

Rows = list[dict[str, Any]]


def probe(job: Composition, run: Path | None, *, verb: str = "probe") -> tuple[Path, Record, Rows]:
    """Extract, fit, measure, write. Returns the folder, the record and the table's rows.

    Raises:
        TfcliError: of the kind that says the exit code; the record has been written where a folder exists.
    """
    root = Path(job.config.run.root)
    check_writable(Path(job.config.run.dir) if job.config.run.dir else root)
    began = time.monotonic()
    frozen = encoder.prepare(job, run)
    heads = requested_heads(frozen)
    learning = [name for name, head in heads.items() if head.learns]
    for split in ("train", "test") if learning else ("test",):
        if not frozen.data.counts[split]:
            raise DataError(f"data `{frozen.data.name}` has no {split} images: the heads need them.")
    name = f"{frozen.name}-{job.choices['data']}"
    folder = run_folder(verb, name, root=root, given=job.config.run.dir)
    record = Record(
        verb=verb,
        status="failed",
        model=frozen.name,
        data=job.choices["data"],
        task="frozen",
        seed=job.config.seed,
        overrides=list(job.overrides),
        counts=dict(frozen.data.counts),
        params={"total": sum(p.numel() for p in frozen.net.parameters()), "trainable": 0},
        checkpoint=frozen.weights,
        figures={name: FigureInfo(title) for name, title in FIGURES.items()},
    )
    with locked(folder), logged(folder), recorded(folder, record) as active:
        active.stop.doing = "(features already extracted are cached)"
        results = _heads(frozen, heads, folder)
        record.main = f"{next(r.head for r in results if r.head.partition('/')[0] in (learning or heads))}/accuracy"
        rows = _write(frozen, heads, results, folder, record, began)
    return folder, record, rows


def _heads(frozen: encoder.Frozen, heads: dict[str, Head], folder: Path) -> list[Result]:
    config = frozen.job.config
    label = str(frozen.devices[0]) if len(frozen.devices) == 1 else f"{len(frozen.devices)} x {frozen.devices[0].type}"
    values = {**plain(config), "choices": dict(frozen.job.choices)}
    write_start(folder, config=values, overrides=frozen.job.overrides, devices=label)
    cached = encoder.cached(frozen)
    counts = " ".join(f"{split} {frozen.data.counts[split]:,}" for split in ("train", "val", "test"))
    arithmetic = "fp32" if frozen.precision == "32" else "fp16" if frozen.precision == "16" else "bf16"
    say(f"features   {frozen.name} ({short(frozen.source)}) · {frozen.job.choices['data']} {counts}")
    say(f"           {label}, {arithmetic} ({frozen.why}) · {relative_path(folder)}")
    say(f"           {_cache_line(cached)}")
    for line in frozen.notes:
        say(line)
    list_skipped(frozen.data, folder)
    views, results = Views(frozen), []
    began = time.monotonic()
    for split in ("train", "val", "test") if any(head.learns for head in heads.values()) else ("test",):
        views.split(split)
    took, images = time.monotonic() - began, sum(frozen.data.counts[s] for s in frozen.seconds)
    read = all(frozen.from_cache.values())
    say(
        f"           {images:,} images {'read' if read else 'extracted'} in {took:.2f} s, {images / took:,.0f} images/s"
    )
    for name, head in heads.items():
        rows: Any = head(views)  # of a user's own class, perhaps
        if not isinstance(rows, list) or not all(isinstance(row, Result) for row in rows):
            raise ConfigError(
                f"head `{name}`: `{config[name]._target_}` must return a list of `Result`, but returned {rows!r:.60}."
            )
        results += rows
    return results


def _cache_line(cached: list[dict[str, Any]]) -> str:
    missing = [row for row in cached if row["cache"] != "hit"]
    if not missing:
        return f"cache hit ({cached[0]['why']})"
    return f"cache miss for {', '.join(row['split'] for row in missing)}: {missing[0]['why']}"


def _write(
    frozen: encoder.Frozen, heads: dict[str, Head], results: list[Result], folder: Path, record: Record, began: float
) -> Rows:
    """Write the record, the table and the figures; returns the rows of the table."""
    for result in results:
        test, name = result.test, result.head
        if "std" in result.series:  # few-shot: a mean over draws, which has a spread and no interval
            record.metrics |= result.metrics | {f"{name}/accuracy": result.series["mean"]}
            continue
        record.metrics |= {f"{name}/accuracy": test.accuracy, f"{name}/accuracy_per_class": test.per_class}
        record.intervals[f"{name}/accuracy"] = list(test.accuracy_interval)
        record.intervals[f"{name}/accuracy_per_class"] = list(test.per_class_interval)
        if test.top5 is not None and test.top5_interval is not None:
            record.metrics[f"{name}/accuracy_top5"] = test.top5
            record.intervals[f"{name}/accuracy_top5"] = list(test.top5_interval)
        record.metrics |= result.metrics
        record.published += published(frozen, result)
    record.baselines |= _guesses(frozen.data)
    extraction = sum(frozen.seconds.values())
    images = sum(frozen.data.counts[s] for s in frozen.seconds)
    record.cost = {
        "seconds": time.monotonic() - began,
        "extraction_seconds": extraction,
        "examples_per_second": images / max(extraction, 1e-9),
        "peak_memory_bytes": peak_memory(),
    }
    rows = table(frozen, results)
    write_atomic(folder / "table.csv", to_csv(CSV, [r["values"] for r in rows]))
    write_atomic(folder / "table.md", to_markdown(COLUMNS, rows))
    write_atomic(folder / "table.json", json.dumps([r["values"] for r in rows], indent=1) + "\n")
    for result in results:
        if result.series.get("templates"):
            alone = [{"template": text, "accuracy": value} for text, value in result.series["templates"]]
            write_atomic(folder / "templates.csv", to_csv({"template": "template", "accuracy": "accuracy"}, alone))
    (folder / "figures").mkdir(exist_ok=True)
    for name, head in heads.items():
        rows_of = [result for result in results if result.head.partition("/")[0] == name]
        head.draw(rows_of, results, folder / "figures", title=f"{frozen.name} on {record.data}")
    if frozen.job.choices.get("protocol") == "hw5":
        from tfcli.engine.probe.homework import report

        command = (folder / "command.txt").read_text(encoding="utf-8")
        write_atomic(folder / "report.md", report(frozen, results, command=command, figures=folder / "figures"))
        say(f"report  {relative_path(folder)}/report.md")
    record.status = "finished"
    return rows


def _guesses(data: Any) -> dict[str, float]:
    """Return the test figures of chance and of the most frequent training class, by `method/figure`."""
    train, test, classes = data.labels("train"), data.labels("test"), len(data.classes)
    if not len(train) or not len(test):
        return chance(classes)
    guess = torch.from_numpy(majority(train, len(test)))
    figures = score(guess[:, None], torch.from_numpy(test), num_classes=classes)
    found = {"accuracy": figures.accuracy, "accuracy_per_class": figures.per_class}
    return chance(classes) | {f"most frequent class/{name}": value for name, value in found.items()}


CSV = {
    name: name
    for name in (
        *("head", "accuracy", "low", "high", "per_class", "top5", "published", "published_metric", "difference"),
        *("source", "protocol", "differs", "seconds"),
    )
}


def published(frozen: encoder.Frozen, result: Result) -> list[dict[str, Any]]:
    """Return figures published for this head on this set, with their metric; under hw5 the homework's range first."""
    head, found = result.head.partition("/")[0], []
    for metric in (f"{head}/accuracy", f"{head}/accuracy_per_class"):
        figures = published_for(
            frozen.name,
            frozen.job.choices["data"],
            weights=frozen.weights,
            metric=metric,
            counts=frozen.data.counts,
            image_size=frozen.data.image_size,
            fitted_on="train + val" if result.series.get("refitted") else None,
        )
        if frozen.job.choices.get("protocol") == "hw5":
            figures.sort(key=lambda figure: "homework" not in figure["source"])
        found += [{**figure, "metric": metric} for figure in figures[:1]]
    return found


def table(frozen: encoder.Frozen, results: list[Result]) -> Rows:
    """Return the rows as they are printed; the plain values of each under `values`."""
    return [_row(result, next(iter(published(frozen, result)), None)) for result in results]


def _row(result: Result, beside: dict[str, Any] | None) -> dict[str, Any]:
    test, notes = result.test, list(result.notes)
    low, high = test.accuracy_interval
    values: dict[str, Any] = {"head": result.title, "accuracy": test.accuracy, "low": low, "high": high}
    values |= {"per_class": test.per_class, "top5": test.top5, "seconds": result.seconds}
    row = {
        "head": result.title,
        "top1": f"{test.accuracy:.3f} [{low:.3f}, {high:.3f}]",
        "per_class": f"{test.per_class:.3f}",
        "top5": "" if test.top5 is None else f"{test.top5:.3f}",
        "cost": f"{result.seconds:.1f} s",
        "published": "",
        "difference": "",
    }
    if "std" in result.series:
        mean, std, per_class = (result.series[key] for key in ("mean", "std", "per_class"))
        row |= {"top1": f"{mean:.3f} ± {std:.3f}", "per_class": f"{per_class:.3f}", "top5": ""}
        values |= {"accuracy": mean, "low": mean - std, "high": mean + std, "per_class": per_class, "top5": None}
    values |= dict.fromkeys(("published", "published_metric", "difference", "source", "protocol", "differs"))
    if beside:
        per_class = beside["metric"].endswith("per_class")
        difference = gap(test.per_class if per_class else test.accuracy, beside["value"])
        row["published"] = f"{in_words(beside['value'])} {beside['source']}{', per class' if per_class else ''}"
        row["difference"] = f"{difference:+.3f}"
        values |= {"published": beside["value"], "published_metric": beside["metric"], "difference": difference}
        values |= {key: beside[key] for key in ("source", "protocol", "differs")}
        if beside["differs"]:
            notes.append(f"published differs ({result.head}): {beside['differs']}")
    return {**row, "values": values, "notes": notes}


def short(source: str) -> str:
    """Return the last part of a path; a public name as it is."""
    return Path(source).name if Path(source).exists() else source
