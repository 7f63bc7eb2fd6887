"""The words that every composing verb takes: `key=value` settings and Hydra's own flags."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Settings in Hydra's grammar, for instance model=vit data=pets.",
        show_default=False,
    ),
]
Run = Annotated[str, typer.Argument(help="A run folder, `latest`, or the beginning of its name.", show_default=False)]
Cfg = Annotated[
    str | None, typer.Option("--cfg", "-c", metavar="job|hydra|all", help="Print the composed config and stop.")
]
Resolve = Annotated[bool, typer.Option("--resolve", help="With --cfg: resolve interpolations.")]
Package = Annotated[str | None, typer.Option("--package", "-p", help="With --cfg: only this part of the config.")]
Info = Annotated[
    str | None,
    typer.Option(
        "--info",
        "-i",
        metavar="all|config|defaults|defaults-tree|plugins|searchpath",
        help="Print how Hydra composed the config and stop.",
    ),
]
ConfigDir = Annotated[
    str | None,
    typer.Option("--config-dir", "-cd", help="A folder of configs that come before ./conf and the packaged ones."),
]
ConfigName = Annotated[
    str | None, typer.Option("--config-name", "-cn", help="The primary config, in place of the verb's own.")
]
Multirun = Annotated[
    bool, typer.Option("--multirun", "-m", help="Run every combination of values given with commas: seed=0,1,2.")
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=1, metavar="N", help="For a sweep: run N jobs at a time.", show_default=False),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="For a sweep: stop at the first job that fails.")]
New = Annotated[
    bool,
    typer.Option("--new", help="With -m: start a new sweep even if the last sweep of the same jobs is unfinished."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def composed(
    name: str,
    settings: list[str] | None,
    *,
    cfg: str | None = None,
    resolve: bool = False,
    package: str | None = None,
    info: str | None = None,
    config_dir: str | None = None,
) -> Any:
    """Compose and check; with `--cfg` or `--info` print and leave.

    Raises:
        ConfigError: whatever is wrong with the settings.
        typer.Exit: after `--cfg` or `--info`.
    """
    from tfcli.cli.console import out
    from tfcli.engine.config import compose
    from tfcli.engine.runs import folder

    settings = settings or []
    if cfg:
        out(
            compose.show(name, settings, kind=cfg, package=package, resolve=resolve, config_dir=config_dir).rstrip("\n")
        )
        raise typer.Exit
    if info:
        out(compose.info(name, settings, kind=info, config_dir=config_dir).rstrip("\n"))
        raise typer.Exit
    job = compose.compose(name, settings, config_dir)
    for note in job.notes:
        folder.say(note)
    return job
