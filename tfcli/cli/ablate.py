"""`tfcli ablate`: a named ablation, its runs, and its table beside the published one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tfcli.cli.options import ConfigDir, Json
from tfcli.errors import ConfigError

Name = Annotated[str, typer.Argument(metavar="NAME|ls", help="An ablation of conf/ablation; `ls` lists them.")]
Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[budget=NAME] [KEY=VALUE]...",
        help="How much to run, and settings for every cell, for instance seed=0,1 data=cifar10.",
        show_default=False,
    ),
]


def mount(app: typer.Typer) -> None:
    """Add `ablate` to the program."""
    app.command("ablate", help="Run a named ablation and show its table beside the published one: tfcli ablate ls")(
        ablate
    )


def ablate(
    name: Name,
    settings: Settings = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the jobs and their time; start nothing.")] = False,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, metavar="N", help="N jobs at a time.")] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first job that fails.")] = False,
    json: Json = False,
    config_dir: ConfigDir = None,
) -> None:
    """Run what is left of an ablation's grid, a job a cell and seed, and print its table.

    The same command after a kill continues: finished jobs are skipped, interrupted ones go on.

    Raises:
        ConfigError: what is wrong with the file, the budget, a cell or a setting; nothing was started.
        SweepFailed: some jobs failed; the table names them, their reasons and their logs.
    """
    from tfcli.cli import console

    if name == "ls":
        _list(json=json, config_dir=config_dir)
        return
    from tfcli.sweeps import ablate as ablations
    from tfcli.sweeps.options import split
    from tfcli.sweeps.runner import Launch

    words, launcher, search = split(settings or [], config_dir)
    if search:
        raise ConfigError("an ablation runs all of its grid: leave `search=` out.")
    budgets = [word.partition("=")[2] for word in words if word.startswith("budget=")]
    typed = [word for word in words if not word.startswith("budget=")]
    console.status("checking the cells ...")
    planned = ablations.plan(name, budgets[-1] if budgets else None, typed, config_dir)
    console.status("")
    processes = jobs or int(launcher.get("jobs") or 1)
    estimated = ablations.estimate(planned, processes)
    if plan:
        _plan(estimated, ablations.in_words(estimated, processes), json=json)
        return
    console.say(f"{ablations.in_words(estimated, processes)} · {planned.folder}")
    ablations.run(planned, Launch(jobs=jobs, fail_fast=fail_fast, launcher=launcher), config_dir)
    from tfcli.cli.multirun import print_sweep

    print_sweep(planned.folder, json=json)


def _plan(estimated: dict[str, Any], words: str, *, json: bool) -> None:
    from tfcli.cli import console
    from tfcli.engine.runs.format import seconds

    if json:
        console.emit_json(estimated)
        return
    columns = {"question": "question"} if len(estimated["rows"]) > 1 else {}
    columns |= {key: key for key in ("cells", "seeds", "jobs", "finished", "failed", "left")}
    columns |= {"each": "a job", "from": "by"}
    rows = [{**row, "each": seconds(row["seconds"])} for row in estimated["rows"]]
    console.table(None, columns, rows, notes=[words, f"in {estimated['folder']}; nothing was started"])


def _list(*, json: bool, config_dir: str | None) -> None:
    from tfcli.cli.console import table
    from tfcli.sweeps.ablation import load, names

    rows = []
    for name in names(config_dir):
        found = load(name, config_dir)
        cells = len(found.rows) * len(found.columns) - len(found.na)
        questions = "" if len(found.questions) == 1 else f" x {len(found.questions)} questions"
        row = {"name": name, "cells": f"{cells}{questions}", "budgets": ", ".join(found.budgets)}
        rows.append({**row, "description": found.description})
    columns = {key: key for key in ("name", "cells", "budgets", "description")}
    table(None, columns, rows, json=json, notes=["tfcli ablate NAME --plan says what one would take"], empty="none yet")
