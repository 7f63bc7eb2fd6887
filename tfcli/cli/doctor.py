"""`tfcli doctor`: the environment, and a line for each thing that would fail with what to type."""

from __future__ import annotations

import typer


def mount(app: typer.Typer) -> None:
    """Add `doctor` to the program."""
    app.command("doctor", help="The environment: devices, versions, folders, W&B; what would fail and why.")(doctor)


def doctor(
    root: str = typer.Option("outputs", "--root", help="The folder of all runs."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Look at everything a run needs. Exit code 1 when something that every run needs is broken."""
    from tfcli.cli.console import emit_json, status, table
    from tfcli.engine.health import examine

    status("looking at the environment ...")
    checks = examine(root)
    status("")
    broken = [check for check in checks if check.state == "broken"]
    if json:
        emit_json({"ok": not broken, "checks": [check._asdict() for check in checks]})
    else:
        rows = [check._asdict() for check in checks]
        columns = {"state": "", "name": "what", "found": "found", "mend": "what to do"}
        colours = {"ok": "green", "note": "yellow", "broken": "red"}
        notes = ["all that a run needs is here" if not broken else f"{len(broken)} broken: no run can start"]
        table(None, columns, rows, notes=notes, style={"state": lambda value: colours[value]})
    if broken:
        raise typer.Exit(1)
