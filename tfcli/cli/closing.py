"""The table that a run ends with: ours, its interval, and what was published or measured beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfcli.cli.console import emit_json, out, say, table
from tfcli.engine.record import Record

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
    "loss": "loss",
    "calibration_error": "calibration error",
}


def closing(folder: Path, record: Record, *, json: bool = False) -> None:
    """Print a record's test figures; `--json` prints the record itself with its folder."""
    if json:
        emit_json({**record.to_json(), "run": str(folder)})
        return
    beside = [f"{p['value']:.3f} published: {p['source']}" for p in record.published[:1]]
    beside += [
        f"{value:.3f} {'logistic regression on pixels' if name == 'logistic_pixels' else name}"
        for name, value in record.baselines.items()
        if not name.startswith("chance/")
    ]
    rows = []
    for name, title in NAMES.items():
        value = record.metrics.get(f"test/{name}")
        if value is None:
            continue
        low, high = record.intervals.get(f"test/{name}", (None, None))
        interval = f"[{low:.3f}, {high:.3f}]" if low is not None else ""
        rows.append(
            {
                "test": title,
                "ours": f"{value:.3f}  {interval}",
                "beside": beside.pop(0) if beside and name.startswith("accuracy") else _chance(record, name),
            }
        )
    cost = record.cost
    if cost:
        memory, rate = cost.get("peak_memory_bytes", 0) / 2**20, cost.get("examples_per_second", 0)
        spent = f"{cost['seconds']:.0f} s · {memory:,.0f} MB · {rate:,.0f} images/s"
        rows.append({"test": "cost", "ours": spent, "beside": ""})
    title = f"{record.model} on {record.data} · {record.counts.get('test', 0):,} test images · seed {record.seed}"
    table(title, {"test": "test", "ours": "ours  [95 %]", "beside": "beside"}, rows)
    for figure in record.published[:1]:
        if figure.get("differs"):
            out(f"published differs: {figure['differs']}")
    say(f"run  {folder}      next  tfcli runs show latest · tfcli predict latest FILE")


def _chance(record: Record, name: str) -> str:
    value = record.baselines.get(f"chance/{name}")
    return "" if value is None else f"{value:.3f} chance"


def probed(folder: Path, record: Record, rows: list[dict[str, Any]], *, json: bool = False) -> None:
    """Print the heads' figures, published ones beside them; `--json` prints the record with its folder."""
    if json:
        emit_json({**record.to_json(), "run": str(folder), "table": [row["values"] for row in rows]})
        return
    from tfcli.engine.probing import COLUMNS

    counts = " · ".join(f"{split} {record.counts.get(split, 0):,}" for split in ("train", "val", "test"))
    notes = list(dict.fromkeys(note for row in rows for note in row["notes"]))
    optional = ("top5", "difference", "cost")
    shown = {k: v for k, v in COLUMNS.items() if any(row[k] for row in rows)}
    table(f"{record.model} on {record.data} · {counts}", shown, rows, notes=notes, optional=optional)
    say(f"run  {folder}      table.md · table.csv · table.json · figures/")
