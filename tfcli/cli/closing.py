"""Print the table that a run ends with: our figures, their intervals, and figures published or measured beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfcli.cli.console import emit_json, plain_lines, say, table
from tfcli.engine.runs.record import Record
from tfcli.metrics.info import FigureInfo


def print_run(folder: Path, record: Record, *, json: bool = False) -> None:
    """Print a record's test figures; `--json` prints the record itself with its folder."""
    from tfcli.engine.runs.published import in_words
    from tfcli.engine.runs.record import figure_info
    from tfcli.engine.runs.summary import baselines, main_metric

    main = (main_metric(record) or "").removeprefix("test/")
    published = [f"{in_words(p['value'])} published: {p['source']}" for p in record.published[:1]]
    rows = []
    measured = [name.removeprefix("test/") for name in record.metrics if name.startswith("test/")]
    declared = list(record.figures or ())
    for name in sorted(measured, key=lambda name: declared.index(name) if name in declared else len(declared)):
        value, info = record.metrics[f"test/{name}"], figure_info(f"test/{name}", [record])
        low, high = record.intervals.get(f"test/{name}", (None, None))
        interval = f"[{_shown(info, low)}, {_shown(info, high)}]" if low is not None and high is not None else ""
        beside = [f"{_shown(info, other)} {what}" for what, other in baselines(record, f"test/{name}").items()]
        beside = [*(published if name == main else ()), *beside]
        rows.append({"test": info.title, "ours": f"{_shown(info, value)}  {interval}", "beside": ", ".join(beside)})
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
    last = f"run  {folder}      next  tfcli runs show latest · {record.next or 'tfcli predict latest FILE'}"
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


def _shown(info: FigureInfo, value: float) -> str:
    return f"{value:,.{info.decimals}f}"


def print_probe(folder: Path, record: Record, rows: list[dict[str, Any]], *, json: bool = False) -> None:
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
