"""`tfcli features`: the cache of frozen features."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tfcli.cli.options import ConfigDir, Json
from tfcli.errors import ConfigError, nearest

features = typer.Typer(help="Extract, list, show and remove frozen features.", no_args_is_help=True)

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL|RUN] [DATA] [KEY=VALUE]...", show_default=False, help="As for `tfcli probe`."),
]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Entries, as `features ls` names them.")]
Folder = Annotated[str | None, typer.Option("--cache", help="The folder of features.cache=.", show_default=False)]


def mount(app: typer.Typer) -> None:
    app.add_typer(features, name="features")


@features.command()
def extract(words: Words = None, json: Json = False, config_dir: ConfigDir = None) -> None:
    """Extract the features of every split once and keep them for the heads."""
    from tfcli.engine.runs.named import frozen_job

    job, run = frozen_job(words or [], config_dir=config_dir)
    from tfcli.cli.console import table
    from tfcli.engine.probe.extract import extract as go

    rows, notes = go(job, run)
    columns = {"split": "split", "rows": "rows", "width": "width", "from": "from", "seconds": "seconds"}
    columns |= {"rate": "images/s", "folder": "where"}
    table(None, columns, rows, json=json, notes=notes)


@features.command("ls")
def list_(words: Words = None, cache: Folder = None, json: Json = False, config_dir: ConfigDir = None) -> None:
    """List the cached features; for MODEL and DATA say whether they would be used, and if not, why."""
    from tfcli.cli.console import table

    if words:
        from tfcli.engine.runs.named import frozen_job

        job, run = frozen_job(words, config_dir=config_dir)
        from tfcli.engine.probe.extract import explain

        columns = {"split": "split", "cache": "cache", "why": "why", "folder": "where"}
        table(None, columns, explain(job, run), json=json)
        return
    rows = _entries(cache)
    columns = {"name": "name", "rows": "rows", "width": "width", "precision": "precision", "layer": "layer"}
    columns |= {"size": "size", "whole": "whole"}
    total = sum(row["bytes"] for row in rows)
    notes = [f"{len(rows)} entries, {total / 1e6:,.1f} MB in {_root(cache)}"] if rows else []
    table(
        None, columns, rows, json=json, notes=notes, empty=f"no features are cached in {_root(cache)}", whole=("name",)
    )


@features.command()
def show(names: Names, cache: Folder = None, json: Json = False) -> None:
    """Print everything that an entry depends on, its shards and their checksums."""
    from tfcli.cli.console import emit_json, out

    found = [_one(name, cache) for name in names]
    if json:
        emit_json([{k: v for k, v in row.items() if k not in ("folder", "age")} for row in found])
        return
    import yaml

    for row in found:
        facts = {"where": str(row["folder"]), "rows": row["rows"], "of": row["count"], "width": row["width"]}
        facts |= {"bytes": row["bytes"], "depends on": row["facts"], "shards": row["shards"]}
        out(f"{row['name']}\n" + yaml.safe_dump(facts, sort_keys=False, allow_unicode=True).rstrip("\n"))


@features.command()
def rm(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every entry.")] = False,
    cache: Folder = None,
) -> None:
    """Delete entries; they are extracted again when they are next wanted."""
    if not names and not everything:
        raise ConfigError("name entries (`tfcli features ls` lists them), or `--all`.")
    from tfcli.cli.console import out

    rows = _entries(cache) if everything else [_one(name, cache) for name in names or []]
    from tfcli.probes.store import remove

    for row in rows:
        remove(row["folder"])
        out(f"removed {row['name']}  ({row['bytes'] / 1e6:,.1f} MB)")


def _root(cache: str | None) -> Any:
    from pathlib import Path

    from tfcli.files import cache_root

    return Path(cache).expanduser() if cache else cache_root() / "features"


def _entries(cache: str | None) -> list[dict[str, Any]]:
    from tfcli.cli.console import say
    from tfcli.probes.store import entries

    return [
        {
            **row,
            "name": row["folder"].name,
            "precision": row["facts"].get("precision"),
            "layer": row["facts"].get("layer") or row["facts"].get("pool"),
            "size": f"{row['bytes'] / 1e6:,.1f} MB",
            "whole": row["rows"] == row["count"],
        }
        for row in entries(_root(cache), say)
    ]


def _one(name: str, cache: str | None) -> dict[str, Any]:
    rows = _entries(cache)
    found = [row for row in rows if row["name"] == name] or [row for row in rows if row["name"].startswith(name)]
    if len(found) != 1:
        names = [row["name"] for row in rows]
        problem = f"`{name}` may mean {len(found)} entries" if found else f"there is no entry `{name}`"
        raise ConfigError(f"{problem}.{'' if found else nearest(name, names)}  (`tfcli features ls` lists {len(rows)})")
    return found[0]
