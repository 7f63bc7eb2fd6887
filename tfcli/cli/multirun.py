"""`-m`: a sweep from the command line, its table, and exit code 4 when jobs failed."""

from __future__ import annotations


def multirun(
    verb: str,
    overrides: list[str],
    *,
    root: str | None = None,
    fail_fast: bool = False,
    config_dir: str | None = None,
    config_name: str | None = None,
    json: bool = False,
) -> None:
    """Run a sweep and print its table.

    Raises:
        SweepFailed: some jobs failed; the table names them, their reasons and their logs.
    """
    from tfcli.cli import console
    from tfcli.errors import SweepFailed
    from tfcli.sweeps import table
    from tfcli.sweeps.runner import Launch, run_sweep
    from tfcli.sweeps.state import read_state

    launch = Launch(fail_fast=fail_fast)
    folder = run_sweep(verb, overrides, root, launch=launch, config_dir=config_dir, config_name=config_name)
    summary = table.summarize(folder, read_state(folder))
    if json:
        console.emit_json(summary)
    else:
        notes = [*table.notes(summary), f"sweep  {folder}      table.md · table.csv · table.json"]
        console.table(None, table.columns(summary), table.flat_rows(summary), notes=notes)
    if summary["failed"]:
        raise SweepFailed(f"{len(summary['failed'])} of {summary['jobs']} jobs failed; the table says which and why.")
