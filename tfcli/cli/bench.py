"""`tfcli bench`: measure the cost of a part."""

from __future__ import annotations

import os

import typer

from tfcli.cli.grouped import grouped
from tfcli.cli.options import HydraFlags, Json, Settings, composed

bench = typer.Typer(help="Measure what a part costs.", no_args_is_help=True)


def mount(app: typer.Typer) -> None:
    """Add `bench` to the program."""
    app.add_typer(bench, name="bench")


@bench.command("attention")
@grouped
def attention(
    settings: Settings = None,
    *,
    json: Json = False,
    flags: HydraFlags,
) -> None:
    """Time and memory of an attention against the length, and their exponents: tfcli bench attention attn=sliding."""
    job = composed("bench", settings, flags)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler talks to stderr
    from tfcli.cli.console import emit_json, say, table
    from tfcli.engine.runs.format import size
    from tfcli.engine.tools.bench import attention as measure

    folder, record = measure(job.config, job.choices, job.overrides)
    if json:
        emit_json({**record.to_json(), "run": str(folder)})
        return
    found = record.metrics
    lengths = [int(name.removeprefix("seconds/n=")) for name in found if name.startswith("seconds/n=")]
    rows = [
        {"n": f"{n:,}", "time": f"{1000 * found[f'seconds/n={n}']:,.2f} ms", "memory": size(found[f"bytes/n={n}"])}
        for n in lengths
    ]
    if "time/exponent" in found:
        rows.append(
            {"n": "exponent", "time": f"{found['time/exponent']:.2f}", "memory": f"{found['memory/exponent']:.2f}"}
        )
    passes = "forward and backward" if job.config.bench.backward else "forward"
    table(f"{record.model} attention · {passes} · one thread", ["n", "time", "memory"], rows)
    say(f"run  {folder}")
