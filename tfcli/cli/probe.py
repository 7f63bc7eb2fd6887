"""tfcli probe, zeroshot, linear, knn: what frozen features are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tfcli.cli.multirun import Sweep, frozen
from tfcli.cli.options import Cfg, ConfigDir, FailFast, Info, Jobs, Json, Multirun, New, Package, Resolve

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL|RUN DATA [KEY=VALUE]...",
        help="A model or one of your runs, a data set, settings: clip flowers protocol=clip.",
        show_default=False,
    ),
]
HELP = {
    "probe": "One feature pass, then zero-shot, linear probe and kNN in one table.",
    "zeroshot": "Classify by the text tower alone: no training images.",
    "linear": "Logistic regression on frozen features, C chosen on validation.",
    "knn": "Nearest neighbours among frozen features, K chosen on validation.",
}


def mount(app: typer.Typer) -> None:
    app.command(help=HELP["probe"])(probe)
    for head in ("zeroshot", "linear", "knn"):
        app.command(head, help=HELP[head])(_alone(head))


def probe(
    words: Words,
    heads: Annotated[
        str | None,
        typer.Option("--heads", help="Of zeroshot, linear, knn, fewshot, with commas.", show_default=False),
    ] = None,
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
    chosen = [f"heads=[{heads}]"] if heads else []
    options = Sweep(multirun, jobs, fail_fast, new)
    _go("probe", [*words, *chosen], options, json, cfg, resolve, package, info, config_dir)


def _alone(head: str):
    def command(
        words: Words,
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
        chosen = f"heads=[{head}]"
        _go(
            head, [*words, chosen], Sweep(multirun, jobs, fail_fast, new), json, cfg, resolve, package, info, config_dir
        )

    return command


def _go(
    verb: str,
    words: list[str],
    options: Sweep,
    json: bool,
    cfg: str | None,
    resolve: bool,
    package: str | None,
    info: str | None,
    config_dir: str | None,
) -> None:
    if options.asked(words, shown=cfg or info):
        frozen(verb, words, options, json=json, config_dir=config_dir)
        return
    if cfg or info:
        from tfcli.cli.options import composed
        from tfcli.engine.runs import named

        overrides = named.resolve(words, config_dir)[1]
        composed("probe", overrides, cfg=cfg, resolve=resolve, package=package, info=info, config_dir=config_dir)
    _report(verb, words, json, config_dir)


def again(verb: str, folder: Path, overrides: list[str], options: Sweep, *, json: bool, config_dir: str | None) -> None:
    """Run a frozen verb anew from its run's settings. Where its model was a training run, it is again."""
    from tfcli.engine.runs.record import read_record

    weights = read_record(folder).checkpoint
    if weights and (Path(weights) / "config.yaml").exists():
        overrides = [weights, *(o for o in overrides if not o.startswith("model="))]
    if options.asked(overrides):
        frozen(verb, overrides, options, json=json, config_dir=config_dir)
    else:
        _report(verb, overrides, json, config_dir)


def _report(verb: str, words: list[str], json: bool, config_dir: str | None) -> None:
    from tfcli.engine.runs.named import frozen_job

    job, run = frozen_job(words, config_dir=config_dir)
    from tfcli.engine.runs.paths import check_paths

    check_paths(job.config)
    from tfcli.engine.probe.probe import probe as go

    folder, record, rows = go(job, run, verb=verb)
    from tfcli.cli.closing import probed

    probed(folder, record, rows, json=json)
