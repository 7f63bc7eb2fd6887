"""The table that a run ends with: ours, its interval, and what was published or measured beside it."""

from __future__ import annotations

from pathlib import Path

from tfcli.cli.console import emit_json, out, say, table
from tfcli.engine.record import Record

NAMES = {
    "accuracy": "accuracy",
    "accuracy_top5": "top 5",
    "accuracy_per_class": "per class",
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
                "beside": beside.pop(0) if beside and name.startswith("accuracy") else "",
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
