"""`tfcli describe`: a composed model in numbers, before anything is trained."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import typer

from tfcli.cli.grouped import grouped
from tfcli.cli.options import HydraFlags, Json, composed

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN] [KEY=VALUE]...",
        help="A run, if any, and settings in Hydra's grammar: model=vit data=pets.",
        show_default=False,
    ),
]


def mount(app: typer.Typer) -> None:
    """Add `describe` to the program."""
    app.command()(grouped(describe))


def describe(
    words: Words = None,
    *,
    tree: Annotated[bool, typer.Option("--tree", help="Also print the network's structure.")] = False,
    json: Json = False,
    flags: HydraFlags,
) -> None:
    """Print parameters, FLOPs, shapes, memory, steps, and the nearest published result of a run or a composed model."""
    run, settings = None, words or []
    if settings and "=" not in settings[0] and not flags.shows:
        from tfcli.engine.runs.named import run_named

        run = run_named(settings[0], flags.config_dir)
    if run is not None:
        from tfcli.engine.runs.saved_config import config_for_this_machine

        config, choices = config_for_this_machine(run, settings[1:])
        typed: Collection[str] | None = None
    else:
        job = composed("train", settings, flags)
        from tfcli.engine.config.compose import given

        config, choices, typed = job.config, job.choices, given(job.overrides, job.choices)
    from tfcli.engine.tools.describe import describe as measure

    facts, structure = measure(config, choices, typed)
    from tfcli.cli.console import emit_json, out, table
    from tfcli.engine.config.configs import name_with_size
    from tfcli.engine.runs.published import in_words

    if json:
        emit_json({**facts, **({"structure": structure} if tree else {})})
        return
    table(
        f"{name_with_size(facts['model'], config.model)} on {facts['data']}",
        {"what": "", "value": ""},
        [{"what": k, "value": v} for k, v in lines(facts)],
    )
    for row in facts["published"][:3]:
        differs = f" · differs: {row['differs']}" if row.get("differs") else ""
        out(f"published  {in_words(row['value'])}  {row['source']}{differs}")
    if tree:
        out(structure)


def lines(facts: dict) -> list[tuple[str, str]]:
    """Return the facts as lines of a table."""
    total, trainable = facts["params"]["total"], facts["params"]["trainable"]
    parts = " · ".join(f"{name} {count:,}" for name, count in facts["params"]["parts"].items())
    memory, steps, flops = facts["memory_bytes"], facts["steps"], facts["flops"]["forward"]
    return [
        ("parameters", f"{total:,}" + ("" if total == trainable else f" ({trainable:,} trainable)")),
        ("of these", parts),
        (
            "multiply-adds",
            f"{flops / 2e9:,.3f} G {facts['flops']['of']}, forward (what papers often call FLOPs)",
        ),
        (
            "operations",
            f"{flops / 1e9:,.3f} GFLOP, two a multiply-add; {3 * flops / 1e9:,.3f} GFLOP with backward",
        ),
        ("shapes", " -> ".join(f"{k} {'x'.join(map(str, v))}" for k, v in facts["shapes"].items())),
        (
            "memory",
            f"{memory['weights'] / 2**20:,.1f} MiB of fp32 weights; "
            f"{memory['training'] / 2**20:,.1f} MiB with gradients and optimizer",
        ),
        (
            "steps",
            f"{steps['epoch']:,} an epoch, {steps['total']:,} in all ({steps['images']:,} training images)"
            if steps
            else "unknown until the data are here",
        ),
    ]
