"""`-m`: run a sweep from the command line, print its table, and exit with code 4 when jobs failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcli.cli.options import HydraFlags, SweepOptions
from tfcli.errors import ConfigError, SweepFailed

SWEEPING = ("launcher=", "launcher.", "search=", "search.", "suite=")
"""Beginnings of settings that only a sweep has."""


def is_sweep(options: SweepOptions, words: Sequence[str] | None, flags: HydraFlags) -> bool:
    """Return whether these words are a sweep: by `-m`, or because `launcher=` or `search=` has no other meaning.

    Raises:
        ConfigError: they are one, and `--cfg` or `--info` wants a single config.
    """
    found = options.multirun or any(word.startswith(SWEEPING) for word in words or [])
    if found and flags.shows:
        raise ConfigError("`--cfg` and `--info` show one job, not a sweep: leave out -m, `launcher=` and `search=`.")
    return found


def run_sweep(
    verb: str,
    overrides: Sequence[str],
    options: SweepOptions,
    *,
    words: Sequence[str] = (),
    config_dir: str | None = None,
    config_name: str | None = None,
    json: bool = False,
    missing: Mapping[str, str] | None = None,
) -> None:
    """Run a sweep, or continue it, and print its table.

    Raises:
        SweepFailed: some jobs failed; the table names them, their reasons and their logs.
    """
    from tfcli.engine.config.configs import Configs, roots
    from tfcli.engine.config.shorthand import expand_names
    from tfcli.sweeps import sweep
    from tfcli.sweeps.options import split
    from tfcli.sweeps.runner import Launch

    rest, launcher, search = split(overrides, config_dir)
    rest = expand_names(rest, Configs(roots(config_dir)))
    launch = Launch(jobs=options.jobs, fail_fast=options.fail_fast, launcher=launcher, search=search)
    folder = sweep.run_sweep(
        verb, rest, launch=launch, new=options.new, words=words, config_dir=config_dir, config_name=config_name
    )
    print_sweep(folder, json=json, missing=missing)


def run_frozen_sweep(verb: str, words: list[str], options: SweepOptions, *, config_dir: str | None, json: bool) -> None:
    """Run a sweep of a frozen verb: many sets or models, one table. `suite=NAME` stands for the sets of a published
    suite.
    """
    from tfcli.engine.runs.named import resolve
    from tfcli.sweeps.suite import suite_sets

    named = [w.partition("=")[2] for w in words if w.startswith("suite=")]
    words = [w for w in words if not w.startswith("suite=")]
    missing: dict[str, str] = {}
    if named:
        sets, missing = suite_sets(named[-1], config_dir)
        words = [*words, f"data={','.join(sets)}"]
    run, overrides = resolve(words, config_dir)
    if run is not None:  # it says itself which model it is
        overrides = [o for o in overrides if not o.startswith("model=")]
    given = [str(run.resolve())] if run else []
    run_sweep(verb, overrides, options, words=given, config_dir=config_dir, json=json, missing=missing)


def print_sweep(folder: Path, *, json: bool, missing: Mapping[str, str] | None = None) -> None:
    """Print a sweep's table.

    Raises:
        SweepFailed: some jobs failed; the table names them, their reasons and their logs.
    """
    summary = tabulate(folder, json=json, missing=missing)
    if summary["failed"]:
        raise SweepFailed(
            f"{len(summary['failed'])} of {summary['jobs']} jobs failed; the table says which and why. "
            f"`tfcli sweep retry {folder.name}` runs them again."
        )


def tabulate(folder: Path, *, json: bool, missing: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Write a sweep's table from what is finished by now, print it or its values, and return these.

    Args:
        missing: the sets of a suite that cannot be read, with reasons.
    """
    from tfcli.cli import console
    from tfcli.sweeps import suite, table
    from tfcli.sweeps.runner import tables
    from tfcli.sweeps.state import read_state

    summary = tables(folder, read_state(folder))
    if "cells" in summary:
        _print_cells(summary, json=json)
        return summary
    heads = "metrics" not in summary
    kind: Any = suite if heads else table
    if json:
        console.emit_json({**summary, **({"missing": dict(missing)} if missing is not None else {})})
        return summary
    notes = [f"not in this suite: {name}, {why}" for name, why in (missing or {}).items()]
    notes += [*kind.notes(summary), f"sweep  {folder}      table.md · table.csv · table.json"]
    optional = ("protocol", "time") if heads else ("time",)
    console.table(None, kind.columns(summary), kind.flat_rows(summary), notes=notes, optional=optional)
    return summary


def _print_cells(summary: dict[str, Any], *, json: bool) -> None:
    """Print an ablation's table."""
    from tfcli.cli import console
    from tfcli.sweeps import ablation_table as tables

    if json:
        console.emit_json(summary)
        return
    if tables.is_grid(summary):
        console.table(None, tables.grid_columns(summary), tables.grid_rows(summary))
        console.out()
    notes = [*summary["notes"], f"ablation  {summary['folder']}      table.md · table.csv · table.json · table.png"]
    optional = ("memory", "parameters", "time", "p")
    console.table(None, tables.cell_columns(summary), tables.cell_rows(summary), notes=notes, optional=optional)
