"""Options that several verbs take: `key=value` settings, Hydra's own flags, the options of sweeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

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
    Literal["job", "hydra", "all"] | None,
    typer.Option("--cfg", "-c", metavar="job|hydra|all", help="Print the composed config and stop."),
]
Resolve = Annotated[bool, typer.Option("--resolve", help="With --cfg: resolve interpolations.")]
Package = Annotated[str | None, typer.Option("--package", "-p", help="With --cfg: only this part of the config.")]
Info = Annotated[
    Literal["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"] | None,
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


@dataclass(frozen=True)
class HydraFlags:
    """Hydra's own flags, as every composing verb takes them."""

    cfg: Cfg = None
    resolve: Resolve = False
    package: Package = None
    info: Info = None
    config_dir: ConfigDir = None

    @property
    def shows(self) -> bool:
        """Return whether the composed config is to be printed, and nothing is to be run."""
        return bool(self.cfg or self.info)


@dataclass(frozen=True)
class SweepOptions:
    """Options of a sweep, as every verb that makes runs takes them."""

    multirun: Multirun = False
    jobs: Jobs = None
    fail_fast: FailFast = False
    new: New = False


def composed(name: str, settings: list[str] | None, flags: HydraFlags) -> Any:
    """Compose a config and check it; with `--cfg` or `--info` print it and exit.

    Raises:
        ConfigError: whatever is wrong with the settings.
        typer.Exit: after `--cfg` or `--info`.
    """
    from tfcli.cli.console import out
    from tfcli.engine.config import compose
    from tfcli.engine.runs import folder

    settings, where = settings or [], flags.config_dir
    if flags.cfg:
        text = compose.show(
            name, settings, kind=flags.cfg, package=flags.package, resolve=flags.resolve, config_dir=where
        )
        out(text.rstrip("\n"))
        raise typer.Exit
    if flags.info:
        out(compose.info(name, settings, kind=flags.info, config_dir=where).rstrip("\n"))
        raise typer.Exit
    job = compose.compose(name, settings, where)
    for note in job.notes:
        folder.say(note)
    return job
