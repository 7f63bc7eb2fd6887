"""tfcli predict: what a trained model says of files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

from tfcli.cli.options import ConfigDir, Json
from tfcli.errors import ConfigError


def mount(app: typer.Typer) -> None:
    app.command()(predict)


def predict(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN|MODEL] [KEY=VALUE]... FILE...",
            help="A run (or a model with weights, or settings with model.weights=), then images or folders.",
            show_default=False,
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="TEXT,TEXT", help="Classes in words, for a model with a text tower."),
    ] = None,
    template: Annotated[str, typer.Option("--template", help="What is said of each label.")] = "{}",
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to give for each file.")] = 3,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the table to this CSV file.")] = None,
    json: Json = False,
    config_dir: ConfigDir = None,
) -> None:
    """Classes and probabilities for image files or folders: of a run, of weights, or of labels in words."""
    settings = [w for w in words if "=" in w and not Path(w).exists()]
    rest = [w for w in words if w not in settings]
    weights = any(s.startswith("model.weights=") for s in settings)
    if not weights and not rest:
        raise ConfigError("`tfcli predict` wants a run and files: tfcli predict latest photo.jpg")
    from tfcli.engine.subject import predictor

    subject, settings = predictor(rest, settings, config_dir)
    if not rest:
        raise ConfigError("`tfcli predict` wants at least one image file or folder.")
    files = [Path(r) for r in rest]
    if labels is not None:
        from tfcli.engine.texts import predict_labels

        found = predict_labels(subject, settings, files, labels.split(","), template, top=top, config_dir=config_dir)
    else:
        from tfcli.engine.evaluation import predict as run

        found = run(subject, settings, files, top=top, config_dir=config_dir)
    from tfcli.cli.console import emit_json, table

    flat = [
        {
            "file": row["file"],
            **{
                f"class{i + 1}": f"{c} {p:.3f}"
                for i, (c, p) in enumerate(zip(row["classes"], row["probabilities"], strict=True))
            },
        }
        for row in found
    ]
    if out:
        with open(out, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "rank", "class", "probability"])
            for row in found:
                for i, (c, p) in enumerate(zip(row["classes"], row["probabilities"], strict=True)):
                    writer.writerow([row["file"], i + 1, c, f"{p:.6f}"])
    if json:
        emit_json(found)
        return
    width = max(len(row["classes"]) for row in found)
    table(None, {"file": "file", **{f"class{i + 1}": f"{i + 1}" for i in range(width)}}, flat)
