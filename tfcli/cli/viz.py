"""`tfcli viz`: draw attention of a model, and figures of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tfcli.cli.options import ConfigDir, Json, Run
from tfcli.errors import ConfigError, DataError


class Kinds(TyperGroup):
    """Command group of the commands below, and of one command for each option of conf/viz, a user's own among them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted({*super().list_commands(ctx), *_declared()})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name) or (_kind(cmd_name) if cmd_name in _declared() else None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        self.commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}  # typer suggests these
        return super().resolve_command(ctx, args)


def _declared() -> dict[str, str]:
    """Return the kinds of figures with their descriptions."""
    from tfcli.engine.config.configs import Configs, roots

    return Configs(roots()).options("viz")


def _kind(name: str) -> Any:
    """Return the command that draws one kind of figure."""

    def command(run: Run, settings: Settings = None, out: Out = None, json: Json = False) -> None:
        from tfcli.engine.runs.figure_kinds import draw

        path, numbers = draw(name, run, settings or [], out)
        _done([path], numbers, json=json)

    own = typer.Typer(add_completion=False)
    own.command(name, help=_declared()[name])(command)
    return typer.main.get_command(own)


viz = typer.Typer(cls=Kinds, help="Draw attention, curves, confusion, and scores by length.", no_args_is_help=True)

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help="Where to write; `figures` in the (first) run.", show_default=False),
]


Settings = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings of the figure.", show_default=False)
]


def mount(app: typer.Typer) -> None:
    app.add_typer(viz, name="viz")


@viz.command()
def attention(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|MODEL [KEY=VALUE]... [IMAGE]",
            help="A run (or a model with weights), and an image file for a model of images.",
            show_default=False,
        ),
    ],
    text: Annotated[
        str | None, typer.Option("--text", "-t", help="For a model of text: a sentence. A translator translates it.")
    ] = None,
    layer: Annotated[
        int | None, typer.Option("--layer", min=1, help="Counted from 1.", show_default="the last")
    ] = None,
    head: Annotated[
        int | None, typer.Option("--head", min=1, help="Counted from 1.", show_default="their mean")
    ] = None,
    out: Out = None,
    json: Json = False,
    config_dir: ConfigDir = None,
) -> None:
    """Draw attention: of tokens to tokens, of a translation to its source, of the class token to an image.

    Beside the pictures attention.npz keeps the weights of all layers.
    """
    settings = [w for w in words if "=" in w and not Path(w).exists()]
    rest = [w for w in words if w not in settings]
    from tfcli.engine.runs.named import resolve_model

    run, settings = resolve_model(rest, settings, config_dir, takes="images" if text is None else "text")
    if len(rest) + (text is not None) != 1:
        raise ConfigError("give one thing to look at: --text SENTENCE for a model of text, or an image file.")
    folder = out or (run / "figures" if run else Path())
    if text is not None:
        from tfcli.engine.use.attention import attention_of_text

        files, looked = attention_of_text(
            run, settings, text, layer=layer, head=head, folder=folder, config_dir=config_dir
        )
    else:
        if head is not None:
            raise ConfigError("`--head` is for texts; for an image every head is drawn.")
        if not Path(rest[0]).is_file():
            raise DataError(f"there is no file `{rest[0]}`.")
        from tfcli.engine.use.attention import attention_of_image

        files, looked = attention_of_image(
            run, settings, Path(rest[0]), layer=layer, folder=folder, config_dir=config_dir
        )
    said = [looked.facts["translation"]] if "translation" in looked.facts else []
    _done(files, {**looked.facts, "rows": looked.rows, "columns": looked.columns}, json=json, said=said)


@viz.command()
def lengths(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs of translators.", show_default=False)],
    score: Annotated[str | None, typer.Option("--score", help="bleu or exact_match.", show_default=False)] = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """Draw test scores of runs against the length of the source: whether long sentences suffer."""
    from tfcli.engine.runs.figures import lengths_of
    from tfcli.engine.runs.record import find_run

    folders = list(dict.fromkeys(find_run(run) for run in runs))
    path = (out or folders[0] / "figures") / "lengths.png"
    _done([path], lengths_of(folders, path, score=score), json=json)


def _done(files: list[Path], numbers: dict[str, Any], *, json: bool, said: list[str] | None = None) -> None:
    """Print what was written; with `--json` the numbers too."""
    from tfcli.cli.console import emit_json, out

    if json:
        emit_json({"files": files, **numbers})
        return
    for line in [*(said or []), *map(str, files)]:
        out(line)
