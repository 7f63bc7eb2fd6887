"""`tfcli fewshot`: evaluate a language model with demonstrations in its prompt."""

from __future__ import annotations

from typing import Annotated

import typer

from tfcli.cli.options import ConfigDir, Json
from tfcli.errors import ConfigError


def mount(app: typer.Typer) -> None:
    app.command()(fewshot)


def fewshot(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|MODEL DATA [KEY=VALUE]...",
            help="A run of a GPT (or a model with weights), a set of texts, settings.",
            show_default=False,
        ),
    ],
    shots: Annotated[str, typer.Option("--shots", help="Numbers of demonstrations, separated by commas.")] = "0,1,4",
    rows: Annotated[int, typer.Option("--rows", min=1, help="The largest number of test rows to ask about.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the drawn rows and demonstrations.")] = 0,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Normalise a candidate's score by its score after a bare `Answer:`, instead of by its length.",
        ),
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print a prompt of each number of demonstrations.")] = False,
    json: Json = False,
    config_dir: ConfigDir = None,
) -> None:
    """Measure zero-, one- and few-shot accuracy on a set of texts: no training, only demonstrations in the prompt."""
    try:
        numbers = [int(k) for k in shots.split(",")]
    except ValueError:
        numbers = [-1]
    if min(numbers) < 0:
        raise ConfigError(f"`--shots` takes whole numbers with commas, for instance 0,1,4,16, but is `{shots}`.")
    settings = [w for w in words if "=" in w]
    rest = [w for w in words if "=" not in w]
    if len(rest) != 2:
        raise ConfigError("`tfcli fewshot` needs a model and a data set: tfcli fewshot latest sst2")
    from tfcli.engine.runs.named import resolve_model

    name = rest[1]
    run, model = resolve_model(rest[:1], [s for s in settings if not s.startswith("data")], config_dir, takes="text")
    data = [s for s in settings if s.startswith("data")]
    from tfcli.engine.config.compose import compose

    compose("data", [f"data={name}", *data], config_dir)  # refuses what is wrong with it before torch is imported
    from tfcli.engine.use.in_context import fewshot as ask

    folder, record, found = ask(
        run, [*model, *data], name, shots=numbers, rows=rows, seed=seed, calibrate=calibrate, config_dir=config_dir
    )
    from tfcli.cli.console import emit_json, out, say, table

    if json:
        emit_json({**record.to_json(), "run": str(folder)})
        return
    if show:
        for result in found:
            out(f"==== {result.shots} demonstrations\n{result.example}\n")
    lines = [
        {
            "shots": result.shots,
            "accuracy": f"{result.accuracy:.3f} [{result.interval[0]:.3f}, {result.interval[1]:.3f}]",
            "chance": f"{result.chance:.3f}" if result.chance else "",
            "used": f"{result.used:.1f}",
            "asked": result.asked,
        }
        for result in found
    ]
    heads = {
        "shots": "shots",
        "accuracy": "accuracy  [95 %]",
        "chance": "chance",
        "used": "fitted",
        "asked": "questions",
    }
    table(f"{record.model} on {record.data}, in context", heads, lines)
    say(f"run  {folder}      prompts.txt · figures/shots.png")
