"""The table that a run ends with: ours, its interval, and what was published or measured beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfcli.cli.console import emit_json, plain_lines, say, table
from tfcli.engine.runs.record import Record

NAMES = {
    "accuracy": "accuracy",
    "accuracy_top5": "top 5",
    "accuracy_per_class": "per class",
    "image_to_text_r1": "image to text, R@1",
    "image_to_text_r5": "image to text, R@5",
    "image_to_text_r10": "image to text, R@10",
    "text_to_image_r1": "text to image, R@1",
    "text_to_image_r5": "text to image, R@5",
    "text_to_image_r10": "text to image, R@10",
    "zeroshot_accuracy": "zero-shot",
    "zeroshot_accuracy_top5": "zero-shot, top 5",
    "zeroshot_accuracy_per_class": "zero-shot, per class",
    "bleu": "BLEU",
    "chrf": "chrF",
    "bits_per_char": "bits per character",
    "bits_per_byte": "bits per byte",
    "perplexity": "perplexity",
    "word_perplexity": "perplexity per word",
    "exact_match": "exact match",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "matthews": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "loss": "loss",
    "calibration_error": "calibration error",
}
"""Titles of figures. Others are shown after these, by their own names."""
NEXT = {
    "lm": 'tfcli sample latest --text "Once"',
    "translate": 'tfcli sample latest --text "..."',
    "mlm": "tfcli train experiment=sst2_bert model.weights=latest",
    **dict.fromkeys(("text_classify", "text_regress", "tag"), 'tfcli predict latest --text "..."'),
    "span": 'tfcli predict latest --text "..." --pair "..."',
}
"""The command to try next with a trained model of each task."""


def closing(folder: Path, record: Record, *, json: bool = False) -> None:
    """Print a record's test figures; `--json` prints the record itself with its folder."""
    from tfcli.engine.runs.published import in_words
    from tfcli.engine.runs.summary import baselines, main_metric

    main = (main_metric(record) or "").removeprefix("test/")
    published = [f"{in_words(p['value'])} published: {p['source']}" for p in record.published[:1]]
    rows = []
    measured = [name.removeprefix("test/") for name in record.metrics if name.startswith("test/")]
    further = sorted((name for name in measured if name not in NAMES), key=lambda name: name.partition("/length=")[0])
    for name in [*(name for name in NAMES if name in measured), *further]:
        value = record.metrics[f"test/{name}"]
        low, high = record.intervals.get(f"test/{name}", (None, None))
        interval = f"[{_shown(name, low)}, {_shown(name, high)}]" if low is not None and high is not None else ""
        beside = [f"{_shown(name, other)} {what}" for what, other in baselines(record, f"test/{name}").items()]
        beside = [*(published if name == main else ()), *beside]
        rows.append({"test": _title(name), "ours": f"{_shown(name, value)}  {interval}", "beside": ", ".join(beside)})
    cost = record.cost
    if cost:
        memory, rate = cost.get("peak_memory_bytes", 0) / 2**20, cost.get("examples_per_second", 0)
        spent = f"{cost['seconds']:.0f} s · {memory:,.0f} MB · {rate:,.0f} {record.units.get('rate', 'images')}/s"
        rows.append({"test": "cost", "ours": spent, "beside": ""})
    tested = f"{record.counts.get('test', 0):,} test {record.units.get('counts', 'images')}"
    title = f"{record.model} on {record.data} · {tested} · seed {record.seed}"
    columns = {"test": "test", "ours": "ours  [95 %]", "beside": "beside"}
    notes = [f"published differs: {figure['differs']}" for figure in record.published[:1] if figure.get("differs")]
    notes += [f"not measured: {what} ({reason})" for what, reason in record.left_out.items()]
    notes += [f"{name}  {signature}" for name, signature in record.signatures.items()]
    last = f"run  {folder}      next  tfcli runs show latest · {NEXT.get(record.task, 'tfcli predict latest FILE')}"
    if json:
        emit_json({**record.to_json(), "run": str(folder)})
    else:
        table(title, columns, rows, notes=notes, whole=("test", "ours"))
        say(last)
    to_log(folder, [*plain_lines(title, columns, rows, notes), last])


def to_log(folder: Path, lines: list[str]) -> None:
    """Add a run's result to its log.txt, once: it goes to stdout, and the log is of stderr."""
    path, text = folder / "log.txt", "\n".join(lines) + "\n"
    if path.exists() and text not in path.read_text(encoding="utf-8", errors="replace"):
        with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(text)


def _title(name: str) -> str:
    """Return a figure's title; a bucket of lengths is labelled by its largest source length, in words."""
    head, _, length = name.partition("/length=")
    title = NAMES.get(head, head.replace("_", " "))
    return f"{title}, up to {length} words" if length else title


def _shown(name: str, value: float) -> str:
    """BLEU and chrF go from 0 to 100 and have one decimal."""
    return f"{value:.1f}" if name.startswith(("bleu", "chrf")) else f"{value:,.3f}"


def probed(folder: Path, record: Record, rows: list[dict[str, Any]], *, json: bool = False) -> None:
    """Print the heads' figures, published ones beside them; `--json` prints the record with its folder."""
    from tfcli.engine.probe.probe import COLUMNS
    from tfcli.engine.runs.summary import baselines

    counts = " · ".join(f"{split} {record.counts.get(split, 0):,}" for split in ("train", "val", "test"))
    beside = [f"{value:.3f} {what}" for what, value in baselines(record, "linear/accuracy").items()]
    notes = [f"top-1 without a model: {', '.join(beside)}"] if beside else []
    notes += dict.fromkeys(note for row in rows for note in row["notes"])
    optional = ("top5", "difference", "cost")
    shown = {k: v for k, v in COLUMNS.items() if any(row[k] for row in rows)}
    title, last = (
        f"{record.model} on {record.data} · {counts}",
        f"run  {folder}      table.md · table.csv · table.json · figures/",
    )
    if json:
        emit_json({**record.to_json(), "run": str(folder), "table": [row["values"] for row in rows]})
    else:
        table(title, shown, rows, notes=notes, optional=optional)
        say(last)
    to_log(folder, [*plain_lines(title, shown, rows, notes), last])
