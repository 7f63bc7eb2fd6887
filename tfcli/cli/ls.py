"""`tfcli ls`: list the options of a group, each with the first comment line of its config."""

from __future__ import annotations

import typer

from tfcli.cli.options import ConfigDir, Json
from tfcli.errors import ConfigError, nearest

Kind = typer.Argument(
    None, metavar="[GROUP]", help="A group of configs, also in the plural: models. Without it, the groups."
)


def mount(app: typer.Typer) -> None:
    """Add `ls` to the program."""
    app.command("ls", help="List what there is: models, data, tasks, pos, attn, optim, experiments, published ...")(ls)


def ls(
    kind: str = Kind,
    all: bool = typer.Option(False, "--all", help="For models: every torchvision classifier by name."),
    config_dir: ConfigDir = None,
    json: Json = False,
) -> None:
    """List the options of a config group with their descriptions."""
    from tfcli.cli.console import table
    from tfcli.engine.config.configs import Configs, known_heads, roots

    configs = Configs(roots(config_dir))
    names = sorted({*configs.groups(), "head"})  # some heads have no file: they are nodes of conf/probe.yaml

    def listed(group: str) -> dict[str, str]:
        return known_heads(configs) if group == "head" else configs.options(group)

    if kind is None:
        rows = [{"name": group, "count": len(listed(group))} for group in names]
        table(None, {"name": "group", "count": "count"}, rows, json=json, notes=["tfcli ls GROUP lists one"])
        return
    group = next((name for name in names if kind in (name, f"{name}s", f"{name}es")), None)
    if group is None:
        raise ConfigError(f"there is no group `{kind}` to list.{nearest(kind, names)}  (there is {', '.join(names)})")
    rows = [{"name": name, "description": text} for name, text in listed(group).items()]
    notes = []
    taken = {row["name"] for row in rows}
    names = [name for name in configs.classifiers() if name not in taken]
    if group == "model" and names:
        if all:
            rows += [{"name": name, "description": "torchvision classifier"} for name in names]
        else:
            notes.append(f"and {len(names)} torchvision classifiers, for instance `model={names[0]}`: --all lists them")
    table(
        None,
        {"name": "name", "description": "description"},
        rows,
        json=json,
        notes=notes,
        empty=f"no {kind} yet",
        whole=("name",),
    )
