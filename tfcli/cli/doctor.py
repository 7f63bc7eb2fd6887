"""`tfcli doctor`: check the environment, and say what to type for each thing that would fail."""

from __future__ import annotations

import typer

from tfcli.cli.options import ConfigDir, HydraFlags, Json, Settings, composed


def mount(app: typer.Typer) -> None:
    """Add `doctor` to the program."""
    app.command("doctor", help="The environment: devices, versions, folders, W&B; what would fail and why.")(doctor)


def doctor(
    settings: Settings = None,
    root: str = typer.Option("outputs", "--root", help="The folder of all runs."),
    config_dir: ConfigDir = None,
    recalibrate: bool = typer.Option(
        False, "--recalibrate", help="Forget which arithmetic was measured as the fastest; the next run measures anew."
    ),
    json: Json = False,
) -> None:
    """Look at everything a run needs, and with settings (experiment=…) at what that run needs besides.

    The exit code is 1 where something is broken, so that no run, or not this one, can start.
    """
    from tfcli.cli.console import emit_json, status, table

    job = composed("train", settings, HydraFlags(config_dir=config_dir)) if settings else None
    from tfcli.engine.tools.doctor import examine, network, recalibration

    forgotten = [recalibration()] if recalibrate else []
    status("looking at the environment ...")
    checks = [*forgotten, *examine(root)]
    if job is not None:
        from tfcli.engine.tools import readiness

        checks += readiness.examine(job, network=network().state == "ok")
    status("")
    broken = [check for check in checks if check.state == "broken"]
    if json:
        emit_json({"ok": not broken, "checks": [check._asdict() for check in checks]})
    else:
        rows = [check._asdict() for check in checks]
        columns = {"state": "", "name": "what", "found": "found", "mend": "what to do"}
        colours = {"ok": "green", "note": "yellow", "broken": "red"}
        notes = [_verdict(job is not None, len(broken))]
        table(None, columns, rows, notes=notes, style={"state": lambda value: colours[value]})
    if broken:
        raise typer.Exit(1)


def _verdict(one: bool, broken: int) -> str:
    if broken:
        return f"{broken} broken: {'this run cannot' if one else 'no run can'} start"
    return "all that this run needs is here or can be fetched" if one else "all that a run needs is here"
