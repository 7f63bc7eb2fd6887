"""`tfcli keys`: list every setting with its default, accepted values and comment."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tfcli.cli.options import ConfigDir, Json


def mount(app: typer.Typer) -> None:
    """Add `keys` to the program."""
    app.command("keys", help="Every setting with its default, what it takes and its comment.")(keys)


def keys(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[GROUP[/OPTION]]",
            help="A group (model, trainer, data …), or one option of it: model/bert.",
            show_default=False,
        ),
    ] = None,
    search: Annotated[
        str | None, typer.Option("--search", "-s", metavar="WORD", help="In all options: keys, choices and comments.")
    ] = None,
    json: Json = False,
    config_dir: ConfigDir = None,
) -> None:
    """Show the settings of `tfcli train`, of a group, or of one option of a group."""
    from tfcli.cli.console import emit_json, is_terminal, table
    from tfcli.engine.config import keys
    from tfcli.engine.config.configs import Configs, roots

    configs = Configs(roots(config_dir))
    found = keys.keys_of(configs, name) if name or not search else keys.search(configs, search)
    if name and search:
        word = search.lower()
        found = [key for key in found if word in f"{key.key} {key.comment} {' '.join(key.choices)}".lower()]
    if json:
        emit_json([key._asdict() for key in found])
        return
    most = sys.maxsize if is_terminal() else 60  # a terminal breaks long values; --json has them whole
    rows = [
        {
            "key": key.key,
            "default": _cut(_shown(key.default), most),
            "takes": _cut(key.takes, most),
            "comment": key.comment,
        }
        | ({"in": _listed(key.options)} if search else {})
        for key in found
    ]
    columns = {"key": "key", "default": "default", "takes": "takes", "comment": "comment"}
    others = list(configs.options(name)) if name and "/" not in name and not search else []
    notes = [f"also tfcli keys {name}/OPTION, for {_listed(others)}"] if len(others) > 1 else []
    empty = f"no setting has `{search}` in its key, choices or comment"
    table(
        None,
        columns | ({"in": "in"} if search else {}),
        rows,
        empty=empty,
        notes=notes,
        optional=("in", "takes"),
        whole=("key",),
    )


def _listed(names: object) -> str:
    words = list(map(str, names)) if isinstance(names, list | tuple) else []
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")


def _shown(value: object) -> str:
    from json import dumps

    return str(value) if isinstance(value, str) else dumps(value, ensure_ascii=False)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
