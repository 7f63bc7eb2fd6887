"""`tfcli weights`: show public checkpoints that are known by name, and fetch them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from tfcli.cli.options import Json

weights = typer.Typer(help="Status and download of public weights.", no_args_is_help=True)

Subject = typer.Argument(
    None, metavar="[NAME|PATH]", help="A public name, or a checkpoint file, folder or run; all names by default."
)
Name = typer.Argument(
    ..., metavar="NAME", help="A name as `model.weights=` takes it, for instance resnet34.IMAGENET1K_V1."
)


def mount(app: typer.Typer) -> None:
    """Add `weights` to the program."""
    app.add_typer(weights, name="weights")


@weights.command()
def status(subject: str = Subject, json: Json = False) -> None:
    """Show which weights are here, for which model, how large and under which licence."""
    from tfcli.cli.console import table
    from tfcli.weights.hub import HUB_NAME, here, public

    known = {row.name: row for row in public()}
    if subject and subject not in known and (Path(subject).expanduser().exists() or not HUB_NAME.fullmatch(subject)):
        _show(subject, json)
        return
    rows = []
    for name in [subject] if subject else known:
        where, row = here(name), known.get(name)
        facts: dict[str, Any] = (
            {"model": row.model, "bytes": row.bytes, "licence": row.licence, "figure": row.figure} if row else {}
        )
        rows.append(
            {"name": name, "here": "yes" if where else "no", **facts, "size": _size(facts.get("bytes")), "path": where}
        )
    columns = {
        "name": "name",
        "here": "here",
        "model": "model=",
        "size": "size",
        "licence": "licence",
        "figure": "published",
    }
    columns |= {"path": "path"} if subject else {}
    notes = ["Any other name of the Hugging Face hub or of torchvision works too. In a run: model.weights=NAME."]
    table(None, columns, rows, json=json, notes=notes, optional=("figure", "licence", "size"))


def _show(path: str, json: bool) -> None:
    from tfcli.cli.console import emit_json, table

    if not Path(path).expanduser().exists() and "/" not in path:
        from tfcli.weights.hub import check_name

        check_name(path)
    from tfcli.weights.summary import summarise

    facts = summarise(path)
    if json:
        emit_json(facts)
        return
    facts |= {"size": _size(facts.pop("bytes")), "types": ", ".join(facts["types"]), "values": f"{facts['values']:,}"}
    table(
        None, {"what": "", "value": ""}, [{"what": key, "value": _text(value)} for key, value in facts.items() if value]
    )


@weights.command()
def get(name: str = Name, json: Json = False) -> None:
    """Fetch a public checkpoint, if it is not here yet, and print where it lies."""
    from tfcli.cli.console import emit_json, out
    from tfcli.weights.hub import find, public

    place = find(name)
    if place.path.is_file() and any(row.name == name and row.model.startswith("clip") for row in public()):
        from tfcli.weights.clip_tokenizer import merges_file

        merges_file()  # OpenAI's archives come without their tokenizer
    if json:
        seen = place.preprocessing.settings if place.preprocessing else {}
        emit_json({"name": name, "path": str(place.path), **seen})
    else:
        out(str(place.path))


def _size(count: int | None) -> str:
    return f"{count / 2**20:,.1f} MiB" if count else ""


def _text(value: Any) -> str:
    return ", ".join(f"{item:g}" for item in value) if isinstance(value, tuple) else str(value)
