"""tfcli evaluate: test metrics of a run's checkpoint, or of public weights."""

from __future__ import annotations

from typing import Annotated

import typer

from tfcli.cli.multirun import Sweep
from tfcli.cli.multirun import multirun as sweep
from tfcli.cli.options import (
    Cfg,
    ConfigDir,
    FailFast,
    Info,
    Jobs,
    Json,
    Multirun,
    New,
    Package,
    Resolve,
    composed,
)
from tfcli.cli.train import report
from tfcli.errors import ConfigError


def mount(app: typer.Typer) -> None:
    app.command()(evaluate)


def evaluate(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN|MODEL] [KEY=VALUE]...",
            help="A run, or a model with its weights: settings with model.weights=.",
            show_default=False,
        ),
    ],
    checkpoint: Annotated[str, typer.Option(help="Of a run: best or last.")] = "best",
    multirun: Multirun = False,
    jobs: Jobs = None,
    fail_fast: FailFast = False,
    new: New = False,
    json: Json = False,
    cfg: Cfg = None,
    resolve: Resolve = False,
    package: Package = None,
    info: Info = None,
    config_dir: ConfigDir = None,
) -> None:
    """Test metrics with 95 % intervals of a run's checkpoint, or of the weights that model.weights= names."""
    run, settings = (None, words) if "=" in words[0] else (words[0], words[1:])
    options = Sweep(multirun, jobs, fail_fast, new)
    if options.asked(settings, shown=cfg or info):
        from tfcli.engine.runs.record import CHECKPOINT, find_run

        given = [str(find_run(run, needs=CHECKPOINT).resolve()), "--checkpoint", checkpoint] if run else []
        sweep("evaluate", settings, options, words=given, config_dir=config_dir, json=json)
        return
    found = None
    if run is not None:
        from tfcli.engine.runs.named import predictor

        found, settings = predictor([run], settings, config_dir)
    if found is None:
        job = composed("train", settings, cfg=cfg, resolve=resolve, package=package, info=info, config_dir=config_dir)
        from tfcli.engine.runs.paths import check_paths

        if not job.config.model.get("weights"):
            raise ConfigError(
                "`tfcli evaluate` without a run needs `model.weights=NAME or PATH`; untrained weights have nothing to "
                "show."
            )
        check_paths(job.config)
        from tfcli.engine.use.evaluate import of_weights

        report(*of_weights(job.config, job.choices, job.overrides), json=json)
    else:
        from tfcli.engine.runs.saved_config import find_checkpoint

        find_checkpoint(found, checkpoint)
        from tfcli.engine.use.evaluate import of_run

        report(*of_run(found, settings, which=checkpoint), json=json)
