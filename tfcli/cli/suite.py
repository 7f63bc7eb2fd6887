"""`-m` of the frozen verbs: many sets or models, one table."""

from __future__ import annotations


def suite(verb: str, words: list[str], *, fail_fast: bool, json: bool, config_dir: str | None) -> None:
    """Run every combination as a job of its own and print one table.

    Raises:
        SweepFailed: some jobs failed; the table names them, their reasons and their logs.
    """
    from tfcli.cli import console
    from tfcli.engine.subject import subject
    from tfcli.errors import SweepFailed
    from tfcli.sweeps import suite as tables
    from tfcli.sweeps.runner import Launch, run_sweep
    from tfcli.sweeps.state import read_state
    from tfcli.sweeps.table import notes_of

    named = [w.partition("=")[2] for w in words if w.startswith("suite=")]
    words = [w for w in words if not w.startswith("suite=")]
    missing: dict[str, str] = {}
    if named:
        sets, missing = tables.suite_sets(named[-1], config_dir)
        words = [*words, f"data={','.join(sets)}"]
    run, overrides = subject(words, config_dir)
    if run is not None:  # it says itself which model it is
        overrides = [o for o in overrides if not o.startswith("model=")]
    folder = run_sweep(
        verb,
        overrides,
        launch=Launch(fail_fast=fail_fast),
        config_dir=config_dir,
        words=[str(run.resolve())] if run else [],
    )
    summary = tables.summarize(folder, read_state(folder))
    if json:
        console.emit_json({**summary, "missing": missing})
    else:
        notes = [f"not in this suite: {name}, {why}" for name, why in missing.items()]
        notes += [*notes_of(summary), f"sweep  {folder}      table.md · table.csv · table.json"]
        console.table(
            None, tables.columns(summary), tables.flat_rows(summary), notes=notes, optional=("protocol", "time")
        )
    if summary["failed"]:
        raise SweepFailed(f"{len(summary['failed'])} of {summary['jobs']} jobs failed; the table says which and why.")
