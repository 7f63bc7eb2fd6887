"""`tfcli probe`, `zeroshot`, `linear`, `knn`: measure heads on frozen features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tfcli.cli.grouped import grouped
from tfcli.cli.multirun import is_sweep, run_frozen_sweep
from tfcli.cli.options import HydraFlags, Json, SweepOptions, composed

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
    """Add `probe` and one verb for each head to the program."""
    app.command(help=HELP["probe"])(grouped(probe))
    for head in ("zeroshot", "linear", "knn"):
        app.command(head, help=HELP[head])(grouped(_one_head(head)))


def probe(
    words: Words,
    heads: Annotated[
        str | None,
        typer.Option("--heads", help="Of zeroshot, linear, knn, fewshot, with commas.", show_default=False),
    ] = None,
    *,
    options: SweepOptions,
    json: Json = False,
    flags: HydraFlags,
) -> None:
    """Run the heads that the model allows, or those of `--heads`."""
    _start("probe", [*words, *([f"heads=[{heads}]"] if heads else [])], options, flags, json=json)


def _one_head(head: str) -> Callable[..., None]:
    def command(words: Words, *, options: SweepOptions, json: Json = False, flags: HydraFlags) -> None:
        _start(head, [*words, f"heads=[{head}]"], options, flags, json=json)

    return command


def _start(verb: str, words: list[str], options: SweepOptions, flags: HydraFlags, *, json: bool) -> None:
    if is_sweep(options, words, flags):
        run_frozen_sweep(verb, words, options, json=json, config_dir=flags.config_dir)
        return
    if flags.shows:
        from tfcli.engine.runs import named

        composed("probe", named.resolve(words, flags.config_dir)[1], flags)
    _run(verb, words, flags.config_dir, json=json)


def rerun_frozen(
    verb: str, folder: Path, overrides: list[str], options: SweepOptions, flags: HydraFlags, *, json: bool
) -> None:
    """Start a frozen verb anew from a run's settings; where its model was a training run, it is again."""
    from tfcli.engine.runs.record import read_record

    weights = read_record(folder).checkpoint
    if weights and (Path(weights) / "config.yaml").exists():
        overrides = [weights, *(o for o in overrides if not o.startswith("model="))]
    _start(verb, overrides, options, flags, json=json)


def _run(verb: str, words: list[str], config_dir: str | None, *, json: bool) -> None:
    from tfcli.engine.runs.named import frozen_job

    job, run = frozen_job(words, config_dir=config_dir)
    from tfcli.engine.runs.paths import check_paths

    check_paths(job.config)
    from tfcli.engine.probe import probe as heads

    folder, record, rows = heads.probe(job, run, verb=verb)
    from tfcli.cli.closing import print_probe

    print_probe(folder, record, rows, json=json)
