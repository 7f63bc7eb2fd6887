"""`tfcli sweep`: list, show, retry, extend and tabulate sweeps."""

from __future__ import annotations

from typing import Annotated

import typer

from tfcli.cli.options import FailFast, Jobs, Json
from tfcli.errors import RunError

sweep = typer.Typer(help="List, show, retry, extend and tabulate sweeps (`-m` begins one).", no_args_is_help=True)

Which = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A sweep's folder, `latest`, or the beginning of its name or id.")
]
Root = Annotated[str, typer.Option("--root", help="The folder of all runs.")]
Where = Annotated[
    list[str] | None,
    typer.Argument(metavar="[launcher=...]", help="Where to run; else where it ran before.", show_default=False),
]
Values = Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="Further values: seed=3,4 optim.lr=1e-2")]


def mount(app: typer.Typer) -> None:
    """Add `sweep` to the program."""
    app.add_typer(sweep, name="sweep")


@sweep.command("ls")
def ls(root: Root = "outputs", json: Json = False) -> None:
    """List sweeps, the newest first."""
    from tfcli.cli.console import say, table
    from tfcli.sweeps.find import all_sweeps, brief
    from tfcli.sweeps.state import read_state

    rows = []
    for folder in all_sweeps(root):
        try:
            rows.append(brief(folder, read_state(folder)))
        except RunError as error:
            say(f"skipped: {error}")
    names = ("sweep", "of", "jobs", "finished", "failed", "running", "left", "varied")
    style = {"failed": lambda count: "red" if count else ""}
    table(
        None,
        names,
        rows,
        json=json,
        empty=f"no sweeps below {root} yet",
        style=style,
        optional=("varied",),
        whole=("sweep",),
    )


@sweep.command("show")
def show(which: Which, root: Root = "outputs", json: Json = False) -> None:
    """Show each job of a sweep, also while it runs; of the failed ones why, their log, and how to retry."""
    from tfcli.cli import console
    from tfcli.engine.runs.format import seconds
    from tfcli.sweeps.find import brief, find_sweep, job_rows
    from tfcli.sweeps.state import read_state
    from tfcli.sweeps.table import best_in_words

    folder = find_sweep(which, root=root)
    state = read_state(folder)
    rows, stands = job_rows(folder, state), brief(folder, state)
    if json:
        facts = {"verb": state.verb, "overrides": state.overrides, "swept": state.swept, "search": state.search}
        console.emit_json({**stands, **facts, "jobs": rows})
        return
    counts = [f"{stands[key]} {key}" for key in ("finished", "failed", "running", "left") if stands[key]]
    console.out(" · ".join([f"{state.verb} sweep of {len(rows)} jobs", *counts]))
    console.out(str(folder))
    console.out(f"typed      {' '.join(state.overrides)}")
    metrics = {row["metric"] for row in rows if row["metric"]}
    columns = {"job": "job", "varied": "settings", "status": "status"}
    columns |= {"score": metrics.pop() if len(metrics) == 1 else "score", "time": "time"}
    shown = [{**row, "time": seconds(row["seconds"])} for row in rows]
    style = {"status": lambda s: COLOURS.get(str(s), "dim")}
    console.table(None, columns, shown, style=style, optional=("time",), whole=("job",))
    if best := state.search.get("best"):
        console.out(best_in_words(best))
    for row in (row for row in rows if row["error"]):
        console.out(f"{row['job']}  {row['varied']}  {row['status']}: {row['error']}")
        console.out(f"    log  {row['log']}")
    if stands["failed"] or stands["left"]:
        what = " and ".join(
            f"the {n} {w}" for n, w in ((stands["failed"], "failed"), (stands["left"], "unfinished")) if n
        )
        console.say(f"next  tfcli sweep retry {folder.name}      runs {what}")


COLOURS = {"finished": "green", "failed": "red", "interrupted": "yellow", "running": "cyan"}


@sweep.command("retry")
def retry(
    which: Which,
    where: Where = None,
    jobs: Jobs = None,
    fail_fast: FailFast = False,
    root: Root = "outputs",
    json: Json = False,
) -> None:
    """Run the failed jobs of a sweep anew and the unfinished ones to their end. Finished ones are kept."""
    from tfcli.cli.multirun import print_sweep
    from tfcli.sweeps.find import find_sweep
    from tfcli.sweeps.runner import Launch
    from tfcli.sweeps.sweep import retry as again

    folder = find_sweep(which, root=root)
    again(folder, where or [], Launch(jobs=jobs, fail_fast=fail_fast))
    print_sweep(folder, json=json)


@sweep.command("extend")
def extend(
    which: Which,
    values: Values,
    jobs: Jobs = None,
    fail_fast: FailFast = False,
    root: Root = "outputs",
    json: Json = False,
) -> None:
    """Add values to a sweep and run what is new: every combination of them with the sweep's other settings."""
    from tfcli.cli.multirun import print_sweep
    from tfcli.sweeps.find import find_sweep
    from tfcli.sweeps.runner import Launch
    from tfcli.sweeps.sweep import extend as more

    folder = find_sweep(which, root=root)
    more(folder, values, Launch(jobs=jobs, fail_fast=fail_fast))
    print_sweep(folder, json=json)


@sweep.command("table")
def table(which: Which, root: Root = "outputs", json: Json = False) -> None:
    """Write a sweep's table.md, table.csv and table.json from the jobs that are finished by now, and print it."""
    from tfcli.cli.multirun import tabulate
    from tfcli.sweeps.find import find_sweep

    tabulate(find_sweep(which, root=root), json=json)
