"""`tfcli export`: write a trained run as a folder that transformers or torchvision opens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tfcli.cli.options import Json, Run


def mount(app: typer.Typer) -> None:
    app.command()(export)


def export(
    run: Run,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="A new folder.", show_default=False)],
    json: Json = False,
) -> None:
    """Write a run's best checkpoint as safetensors, config, tokenizer and model card of a public library."""
    from tfcli.engine.runs.record import CHECKPOINT, find_run

    found = find_run(run, needs=CHECKPOINT)
    from tfcli.cli.console import emit_json, out
    from tfcli.engine.use.export import export as write

    facts = write(found, to)
    if json:
        emit_json(facts)
        return
    out(f"{facts['folder']}  {facts['architecture']} of {facts['library']}, {facts['tensors']} tensors")
    out(f"files  {', '.join(facts['files'])}")
    for line in facts["notes"]:
        out(f"note   {line}")
