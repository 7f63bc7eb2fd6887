"""`tfcli train`, `resume`, `rerun`: train a run, continue one, or repeat one with changes."""

from __future__ import annotations

import typer

from tfcli.cli.grouped import grouped
from tfcli.cli.multirun import is_sweep, run_sweep
from tfcli.cli.options import ConfigName, HydraFlags, Json, Run, Settings, SweepOptions, composed


def mount(app: typer.Typer) -> None:
    """Add `train`, `resume` and `rerun` to the program."""
    app.command()(grouped(train))
    app.command()(resume)
    app.command()(grouped(rerun))


def train(
    settings: Settings = None,
    *,
    options: SweepOptions,
    json: Json = False,
    flags: HydraFlags,
    config_name: ConfigName = None,
) -> None:
    """Compose, build, fit, test and write a run folder."""
    if is_sweep(options, settings, flags):
        words, where = settings or [], flags.config_dir
        run_sweep("train", words, options, config_dir=where, config_name=config_name, json=json)
        return
    _start(composed(config_name or "train", settings, flags), json=json)


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
    from tfcli.engine.train import run as training

    report(*training.resume(folder, settings or []), json=json)


def rerun(
    run: Run,
    settings: Settings = None,
    *,
    options: SweepOptions,
    json: Json = False,
    flags: HydraFlags,
) -> None:
    """Start a new run from RUN's settings, with changes."""
    from tfcli.engine.config.configs import FROZEN_VERBS
    from tfcli.engine.runs.record import find_run, read_record
    from tfcli.engine.runs.saved_config import merged, trusted_overrides

    folder = find_run(run)
    verb = read_record(folder).verb
    frozen = verb in FROZEN_VERBS
    saved = trusted_overrides(folder, name="probe" if frozen else "train", config_dir=flags.config_dir)
    words = merged(saved, settings or [])
    if frozen:
        from tfcli.cli.probe import rerun_frozen

        rerun_frozen(verb, folder, words, options, flags, json=json)
    elif is_sweep(options, settings, flags):
        run_sweep("train", words, options, config_dir=flags.config_dir, json=json)
    else:
        _start(composed("train", words, flags), json=json)


def _start(job, *, json: bool) -> None:
    from tfcli.engine.runs import paths

    paths.check_paths(job.config)
    if job.config.model.get("weights"):
        from tfcli.engine.loading.from_run import resolve_run

        resolve_run(job.config, job.overrides)
    if "teacher" in job.config.task:
        from tfcli.engine.train.teacher import resolve_teacher

        resolve_teacher(job.config, job.overrides)
    from tfcli.engine.train import run

    report(*run.train(job.config, job.choices, job.overrides), json=json)


def report(folder, record, *, json: bool) -> None:
    """Print the closing table of a run, on rank 0."""
    from tfcli.cli.closing import print_run
    from tfcli.engine.runs.folder import is_child

    if not is_child():
        print_run(folder, record, json=json)
