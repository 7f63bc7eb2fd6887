"""tfcli train, resume, rerun."""

from __future__ import annotations

import typer

from tfcli.cli.multirun import Sweep
from tfcli.cli.multirun import multirun as sweep
from tfcli.cli.options import (
    Cfg,
    ConfigDir,
    ConfigName,
    FailFast,
    Info,
    Jobs,
    Json,
    Multirun,
    New,
    Package,
    Resolve,
    Run,
    Settings,
    composed,
)


def mount(app: typer.Typer) -> None:
    app.command()(train)
    app.command()(resume)
    app.command()(rerun)


def train(
    settings: Settings = None,
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
    config_name: ConfigName = None,
) -> None:
    """Compose, build, fit, test and write a run folder."""
    options = Sweep(multirun, jobs, fail_fast, new)
    if options.asked(settings, shown=cfg or info):
        sweep("train", settings or [], options, config_dir=config_dir, config_name=config_name, json=json)
        return
    job = composed(
        config_name or "train", settings, cfg=cfg, resolve=resolve, package=package, info=info, config_dir=config_dir
    )
    _start(job, json=json)


def resume(
    run: Run,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Resume RUN exactly where it stopped."""
    from tfcli.engine.runs.record import find_run

    folder = find_run(run, needs="checkpoints")
    from tfcli.engine.runs.saved_config import resumed_config

    resumed_config(folder, settings or [])  # refuses what does not fit before torch is imported
    from tfcli.engine.train.run import resume as go_on

    report(*go_on(folder, settings or []), json=json)


def rerun(
    run: Run,
    settings: Settings = None,
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
    """Start a new run from RUN's settings, with changes."""
    from tfcli.engine.config.heads import FROZEN_VERBS
    from tfcli.engine.runs.record import find_run, read_record
    from tfcli.engine.runs.saved_config import merged, trusted_overrides

    folder = find_run(run)
    verb, options = read_record(folder).verb, Sweep(multirun, jobs, fail_fast, new)
    frozen = verb in FROZEN_VERBS
    words = merged(
        trusted_overrides(folder, name="probe" if frozen else "train", config_dir=config_dir), settings or []
    )
    if frozen:
        from tfcli.cli.probe import again

        again(verb, folder, words, options, json=json, config_dir=config_dir)
        return
    if options.asked(settings, shown=cfg or info):
        sweep("train", words, options, config_dir=config_dir, json=json)
        return
    job = composed("train", words, cfg=cfg, resolve=resolve, package=package, info=info, config_dir=config_dir)
    _start(job, json=json)


def _start(job, *, json: bool) -> None:
    from tfcli.engine.loading import from_run
    from tfcli.engine.runs import paths
    from tfcli.engine.train import teacher

    paths.check_paths(job.config)
    from_run.settle(job.config, job.overrides)
    teacher.settle(job.config, job.overrides)
    from tfcli.engine.train.run import train as run

    report(*run(job.config, job.choices, job.overrides), json=json)


def report(folder, record, *, json: bool) -> None:
    """Print the closing table of a run, on rank 0."""
    from tfcli.cli.closing import closing
    from tfcli.engine.runs.folder import is_child

    if not is_child():
        closing(folder, record, json=json)
