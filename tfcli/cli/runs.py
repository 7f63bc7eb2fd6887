"""`tfcli runs`: list, show, compare and tabulate runs."""

from __future__ import annotations

from typing import Any, Literal

import typer

from tfcli.cli.options import Json
from tfcli.errors import RunError

runs = typer.Typer(help="List, show, compare and tabulate runs.", no_args_is_help=True)

Root = typer.Option("outputs", "--root", help="The folder of all runs.")
Model = typer.Option(None, "--model", help="Only runs of this model.")
Data = typer.Option(None, "--data", help="Only runs on this data set.")
Verb = typer.Option(None, "--verb", help="Only runs of this verb.")
Status = typer.Option(None, "--status", help="Only runs with this status.")
Ended = typer.Option("finished", "--status", help="Only runs that ended so.")
Statuses = Literal["finished", "failed", "interrupted", "unfinished"]


Runs = typer.Argument(..., metavar="RUN RUN...", help="Two or more runs; differences are against the first.")
Filters = typer.Argument(None, metavar="[KEY=VALUE...]", help="Only runs with these settings.")
Metrics = typer.Option(None, "--metric", help="A metric to tabulate; may be repeated.")


def mount(app: typer.Typer) -> None:
    """Add `runs` to the program."""
    app.add_typer(runs, name="runs")


@runs.command("ls")
def ls(
    model: str = Model,
    data: str = Data,
    status: Statuses = Status,
    verb: str = Verb,
    sort: str = typer.Option(None, "--sort", metavar="METRIC", help="Order by a metric, the best first."),
    last: int = typer.Option(None, "--last", min=1, metavar="N", help="Only the newest N."),
    root: str = Root,
    json: Json = False,
) -> None:
    """List runs, the newest first."""
    from tfcli.cli.console import table
    from tfcli.engine.runs import summary

    found = summary.select(root, model=model, data=data, status=status, verb=verb)
    if sort:
        found = summary.sort_by(found, sort)
    rows = [summary.brief(run, record, metric=sort) for run, record in found[:last]]
    columns = {"run": "run", "verb": "verb", "model": "model", "data": "data", "seed": "seed", "status": "status"}
    metrics = {row["metric"] for row in rows if row["metric"]}
    columns |= {"score": metrics.pop() if len(metrics) == 1 else "score", "interval": "95 % interval", "time": "time"}
    notes = [f"{len(found)} runs below {root}, the newest {last} shown"] if last and last < len(found) else []
    empty = f"no runs below {root} that fit" if model or data or status or verb else f"no runs below {root} yet"
    style, optional = {"status": _colour}, ("interval", "verb", "time")
    table(None, columns, rows, json=json, empty=empty, notes=notes, style=style, optional=optional, whole=("run",))


@runs.command("show")
def show(
    run: str = typer.Argument(..., help="A run folder, `latest`, the beginning or id of its name, or MODEL-DATA."),
    root: str = Root,
    json: Json = False,
) -> None:
    """Show one run: how it ended, its numbers beside published ones, its cost and its files."""
    from tfcli.cli import console
    from tfcli.engine.runs import summary
    from tfcli.engine.runs.record import find_run, read_record

    folder = find_run(run, root=root)
    record = read_record(folder)
    if json:
        console.emit_json(summary.document(folder, record))
        return
    for line in summary.headline(folder, record):
        console.out(line)
    rows = summary.metric_rows(record)
    if rows:
        columns = {"metric": "metric", "value": "value", "interval": "95 % interval"}
        columns |= {key: key for key in ("baseline", "published", "source") if any(row.get(key) for row in rows)}
        columns |= {"title": "title", "better": "better"}
        console.out()
        console.table(None, columns, rows, optional=("better", "title"))
    for line in summary.footer(folder, record):
        console.out(line)


@runs.command("compare")
def compare(
    runs: list[str] = Runs,
    root: str = Root,
    json: Json = False,
) -> None:
    """Show which settings differ between runs, and by how much their metrics do."""
    from tfcli.cli import console
    from tfcli.engine.runs import summary
    from tfcli.engine.runs.paired import paired_runs, paired_translations
    from tfcli.engine.runs.record import find_run, read_config, read_record, run_name

    if len(runs) < 2:
        raise RunError("`runs compare` takes two or more runs; `runs show` takes one.")
    folders = list(dict.fromkeys(find_run(text, root=root) for text in runs))
    if len(folders) < 2:
        raise RunError(f"these names all mean one run, `{folders[0]}`.")
    names = [run_name(folder) for folder in folders]
    config = summary.config_differences(folders)
    metrics = summary.metric_differences(folders)
    tokenize = (read_config(folders[0]).get("task") or {}).get("tokenize", "13a")
    paired, translated = paired_runs(folders), paired_translations(folders, tokenize=tokenize)
    if json:
        tests = {"paired": paired, "translations": translated}
        console.emit_json({"runs": [str(f) for f in folders], "config": config, "metrics": metrics, **tests})
        return
    short = {f"run{i + 1}": f"run {i + 1}" for i in range(len(names))}
    for head, name in zip(short.values(), names, strict=True):
        console.out(f"{head}  {name}")
    console.out()
    rows = [{"key": r["key"], **dict(zip(short, r["values"], strict=True))} for r in config]
    console.table(None, {"key": "setting", **short}, rows, empty="the settings are the same")
    if rows:
        console.out()
    rows = [summary.difference_row(r, list(short)) for r in metrics]
    columns = {"metric": "metric", **short}
    for i in range(2, len(names) + 1):
        columns |= {f"diff{i}": f"{i} - 1"}
    console.table(None, columns, rows, empty="no metric in common")
    unit = read_record(folders[0]).units.get("counts", "images")
    for i, test in enumerate(paired, 2):
        if test is not None:
            console.out(
                f"on the same {test['images']:,} test {unit}: {i} - 1 = {test['difference']:+.3f} "
                f"[{test['low']:+.3f}, {test['high']:+.3f}], p = {test['p']:.2g} (exact McNemar; only {i} is right on "
                f"{test['better']}, only 1 on {test['worse']})"
            )
    for i, test in enumerate(translated, 2):
        if test is not None:
            console.out(
                f"on the same {test['sentences']:,} test sentences: {i} - 1 = {test['difference']:+.2f} BLEU, "
                f"p = {test['p']:.2g} (paired bootstrap)"
            )


@runs.command("table")
def table(
    filters: list[str] = Filters,
    metric: list[str] = Metrics,
    model: str = Model,
    data: str = Data,
    status: Statuses = Ended,
    verb: str = Verb,
    last: int = typer.Option(None, "--last", min=1, metavar="N", help="Only the newest N runs."),
    format: Literal["text", "csv", "markdown", "json"] = typer.Option("text", "--format", help="Of the table."),
    root: str = Root,
    json: Json = False,
) -> None:
    """Print one table over many runs: mean, spread and best over the seeds of each configuration."""
    from tfcli.cli import console
    from tfcli.engine.runs import over_seeds, summary

    found = summary.select(root, model=model, data=data, status=status, verb=verb, settings=filters or [])
    found, others = summary.of_one_verb(found)
    found = found[:last]
    columns, rows = over_seeds.group(found, metrics=metric or [])
    if json or format == "json":
        console.emit_json(rows)
        return
    if format == "csv":
        columns = over_seeds.csv_columns(columns)
    flat: list[dict[str, Any]] = [over_seeds.flat_row(row, numbers=format == "csv") for row in rows]
    notes = ["mean ± standard deviation over the n runs of a configuration, which differ in seed only"]
    notes += [
        f"runs of `{found[0][1].verb}` only; --verb {other} shows the {n} of `{other}`" for other, n in others.items()
    ]
    console.table(None, columns, flat, format=format, empty=f"no runs below {root} that fit", notes=notes)


def _colour(status: Any) -> str:
    return {"finished": "green", "failed": "red", "interrupted": "yellow"}.get(str(status), "dim")
