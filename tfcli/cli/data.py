"""`tfcli data`: what is here and what is missing, fetched ahead of a run, looked at."""

from __future__ import annotations

from typing import Any

import typer

from tfcli.errors import ConfigError, DataError

data = typer.Typer(help="Status, download and preview of data sets.", no_args_is_help=True)

Json = typer.Option(False, "--json", help="Print one JSON document.")
Name = typer.Argument(..., metavar="NAME", help="A set, as in `tfcli ls data`.")
Names = typer.Argument(None, metavar="[NAME]... [KEY=VALUE]...", help="Sets; all of them by default.")
Check = typer.Option(False, "--check", help="Decode each file: counts, unreadable files, equal samples.")
Settings = typer.Argument(None, metavar="[KEY=VALUE]...", help="Settings, for instance data.root=FOLDER.")


def mount(app: typer.Typer) -> None:
    """Add `data` to the program."""
    app.add_typer(data, name="data")


def _own(name: str) -> bool:
    """Whether a set is whatever the user has, as its licence says."""
    from tfcli.engine.config.configs import Configs, roots

    return Configs(roots()).mounted("data", name).get("data", {}).get("licence") == "yours"


def _composed(name: str, settings: list[str]) -> Any:
    from tfcli.engine.config.compose import compose

    if "," in name:
        raise ConfigError(
            f"`{name}` names several sets: `data preview` shows and `data get` fetches one set at a time; "
            "`data status` takes names with spaces between them."
        )
    return compose("data", [f"data={name}", *settings]).config.data


@data.command()
def status(names: list[str] = Names, check: bool = Check, json: bool = Json) -> None:
    """Show which data sets are here, where, how large and under which licence."""
    from tfcli.cli.console import say, table
    from tfcli.engine.config.configs import options
    from tfcli.engine.tools.readiness import source_of

    settings = [word for word in names or [] if "=" in word]
    chosen = [word for word in names or [] if "=" not in word] or [name for name in options("data") if not _own(name)]
    rows, notes = [], [] if check else ["Counts are the official ones; --check reads what is here."]
    for name in chosen:
        config = _composed(name, settings)
        source, request = source_of(config, download=False)
        where = source.locate(request)
        place = str(where or request.root / name)
        row: dict[str, Any] = {"set": name, "here": "yes" if where else "no", "where": place}
        row |= {split: (config.counts or {}).get(split) for split in ("train", "val", "test")}
        row |= {
            "download_bytes": config.download_bytes,
            "size": _size(config.download_bytes),
            "licence": config.licence,
        }
        if check and where:
            say(f"reading {name}")
            row |= _checked(source, request, notes)
        rows.append(row)
    columns = {"set": "set", "here": "here", "train": "train", "val": "val", "test": "test", "size": "download"}
    columns |= {"duplicates": "in train and test", "unreadable": "unreadable"} if check else {}
    table(None, columns | {"licence": "licence", "where": "where"}, rows, json=json, notes=notes, optional=("licence",))


def _checked(source: Any, request: Any, notes: list[str]) -> dict[str, Any]:
    from tfcli.data.images.inspect import inspect

    try:
        found = inspect(source.load(request))
    except DataError as error:
        notes.append(str(error))
        return {"here": "unusable", "error": str(error)}
    notes.extend(f"{request.name}: equal: {a} (train) and {b} (test)" for a, b in found.duplicates[:5])
    notes.extend(f"{request.name}: unreadable: {reason}" for reason in found.unreadable[:5])
    facts = {"duplicates": len(found.duplicates), "unreadable": len(found.unreadable)}
    return {split: found.counts.get(split) for split in ("train", "val", "test")} | facts


def _size(count: int | None) -> str:
    if not count:
        return "-"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


@data.command()
def get(name: str = Name, settings: list[str] = Settings, json: bool = Json) -> None:
    """Fetch a set ahead of a run."""
    from tfcli.cli.console import emit_json, out
    from tfcli.engine.tools.readiness import source_of

    source, request = source_of(_composed(name, settings or []))
    loaded = source.load(request)
    counts = loaded.counts
    facts = {"set": name, "where": str(loaded.where or source.locate(request)), "counts": counts, "notes": loaded.notes}
    if json:
        emit_json(facts)
        return
    out(f"{name}  {facts['where']}  " + " · ".join(f"{split} {count:,}" for split, count in counts.items()))
    for note in loaded.notes:
        out(note)


@data.command()
def preview(
    name: str = Name,
    settings: list[str] = Settings,
    columns: str = typer.Option(
        None, "--columns", metavar="A,B|all", help="Columns to show, see `tfcli keys data/NAME`."
    ),
    out_path: str = typer.Option(None, "--out", metavar="FILE", help="PNG; outputs/preview-NAME.png by default."),
    split: str = typer.Option("train", "--split", metavar="train|val|test"),
    count: int = typer.Option(
        None, "--count", min=1, max=600, help="Samples: 24 images, 6 of several pictures, 10 of text."
    ),
    augmented: bool = typer.Option(False, "--augmented", help="Images as training sees them in its first epoch."),
    json: bool = Json,
) -> None:
    """Draw samples of a split on one sheet: images, masks, boxes, depth, stereo pairs, clips, meshes, and their texts.

    Rows of text alone are printed as a table.
    """
    from tfcli.cli.console import emit_json, out, say, table
    from tfcli.engine.config.build import build
    from tfcli.engine.tools.preview import chosen, drawn, in_words, samples, settings_for

    config = _composed(name, settings or [])
    names = chosen(config.columns, columns)
    pictures = drawn(names)
    module = build(_composed(name, [*(settings or []), *settings_for(config, names, augmented=augmented)]))
    usual = {0: 10, 1: 24}.get(len(pictures), 6)
    found = samples(module, split, names, count or usual, augmented=augmented)
    for note in module.notes:
        say(note)
    if columns is None and len(names) < len(config.columns):
        others = ", ".join(column for column in config.columns if column not in names)
        say(f"further columns: {others} (--columns A,B shows them)")
    rows = in_words(found, names, module.classes_of)
    if not pictures:
        from tfcli.data.texts.textpreview import short

        shown = rows if json else [short(row) for row in rows]
        table(None, list(shown[0]), shown, json=json)
        return
    from pathlib import Path

    from tfcli.data.images.preview import save, sheet

    path = Path(out_path or f"outputs/preview-{name}.png")
    save(sheet(found, names, module.classes_of), path)
    facts = {"path": str(path), "set": name, "split": split, "images": len(found), "counts": module.counts}
    emit_json(facts | {"columns": names, "rows": rows}) if json else out(str(path))
