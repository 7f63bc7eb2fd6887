"""`tfcli evaluate`: test metrics of a run's checkpoint, or of public weights."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tfcli.cli.grouped import grouped
from tfcli.cli.multirun import is_sweep, run_sweep
from tfcli.cli.options import HydraFlags, Json, SweepOptions, composed
from tfcli.cli.train import report
from tfcli.errors import ConfigError


def mount(app: typer.Typer) -> None:
    """Add `evaluate` to the program."""
    app.command()(grouped(evaluate))


def evaluate(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN|MODEL] [KEY=VALUE]...",
            help="A run, or a model with its weights: settings with model.weights=.",
            show_default=False,
        ),
    ],
    checkpoint: Annotated[Literal["best", "last"], typer.Option(help="Of a run.")] = "best",
    *,
    options: SweepOptions,
    json: Json = False,
    flags: HydraFlags,
) -> None:
    """Test metrics with 95 % intervals of a run's checkpoint, or of the weights that model.weights= names."""
    run, settings = (None, words) if "=" in words[0] else (words[0], words[1:])
    if is_sweep(options, settings, flags):
        from tfcli.engine.runs.record import CHECKPOINT, find_run

        given = [str(find_run(run, needs=CHECKPOINT).resolve()), "--checkpoint", checkpoint] if run else []
        run_sweep("evaluate", settings, options, words=given, config_dir=flags.config_dir, json=json)
        return
    found = None
    if run is not None:
        from tfcli.engine.runs.named import resolve_model

        found, settings = resolve_model([run], settings, flags.config_dir)
    if found is None:
        job = composed("train", settings, flags)
        from tfcli.engine.runs.paths import check_paths

        if not job.config.model.get("weights"):
            raise ConfigError(
                "`tfcli evaluate` without a run needs `model.weights=NAME or PATH`; untrained weights give no useful "
                "figures."
            )
        check_paths(job.config)
        from tfcli.engine.use.evaluate import of_weights

        report(*of_weights(job.config, job.choices, job.overrides), json=json)
    else:
        from tfcli.engine.runs.saved_config import find_checkpoint

        find_checkpoint(found, checkpoint)
        from tfcli.engine.use.evaluate import of_run

        report(*of_run(found, settings, which=checkpoint), json=json)
