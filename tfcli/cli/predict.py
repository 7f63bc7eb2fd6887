"""`tfcli predict`: predict classes for files or texts with a trained model."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tfcli.cli.options import ConfigDir, Json
from tfcli.errors import ConfigError, TfcliError


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
    text: Annotated[
        list[str] | None,
        typer.Option("--text", "-t", help="A text instead of files: a sentence, a question. May be repeated."),
    ] = None,
    question: Annotated[
        list[str] | None,
        typer.Option(
            "--question", "-q", help="A question about the images, for a run that answers questions; may be repeated."
        ),
    ] = None,
    pair: Annotated[
        list[str] | None, typer.Option("--pair", help="The second text of a pair, a question's context, a choice.")
    ] = None,
    template: Annotated[str, typer.Option("--template", help="Template around each label.")] = "{}",
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to give for each file.")] = 3,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the table to this CSV file.")] = None,
    json: Json = False,
    config_dir: ConfigDir = None,
) -> None:
    """Print classes and probabilities for image files, folders or texts: of a run, of weights, or of labels in words.

    With --question, print the answers to questions about the images.

    Files that cannot be used are listed at the end, and the exit code is then 1; it is 2 where none can be used.
    """
    settings = [w for w in words if "=" in w and not Path(w).exists()]
    rest = [w for w in words if w not in settings]
    weights = any(s.startswith("model.weights=") for s in settings)
    if not weights and not rest:
        raise ConfigError("`tfcli predict` needs a run and files: tfcli predict latest photo.jpg")
    names = list(dict.fromkeys(label.strip() for label in (labels or "").split(",") if label.strip()))
    if labels is not None and len(names) < 2:
        raise ConfigError(f"`--labels` needs at least two texts separated by commas, but has {len(names)}.")
    if sum(map(bool, (text, question, names))) > 1:
        raise ConfigError("`--text`, `--question` and `--labels` exclude each other: give one of them.")
    if any(not one.strip() for one in question or ()):
        raise ConfigError('`--question` is empty: ask something, as in --question "How many circles are there?".')
    from tfcli.engine.runs.named import Takes, resolve_model

    takes: Takes = "text" if text else "questions" if question else "images"
    folder, settings = resolve_model(rest, settings, config_dir, takes=takes)
    if text:
        if rest:
            raise ConfigError(f"`{rest[0]}`: with --text there are no files.")
        _texts(folder, settings, text, pair or [], top=top, out=out, json=json, config_dir=config_dir)
        return
    if not rest:
        raise ConfigError("`tfcli predict` needs at least one image file or folder.")
    from tfcli.data.common.entries import collect

    files = collect([Path(r) for r in rest])
    if question:
        from tfcli.engine.use.image_questions import answer_questions

        found = answer_questions(folder, settings, files, question, top=top, config_dir=config_dir)
    elif labels is not None:
        from tfcli.engine.use.texts import predict_labels

        found = predict_labels(folder, settings, files, names, template, top=top, config_dir=config_dir)
    else:
        from tfcli.engine.use.predict import predict as run

        found = run(folder, settings, files, top=top, config_dir=config_dir)
    _show(found, "file", out=out, json=json)


def _texts(
    folder: Path | None,
    settings: list[str],
    text: list[str],
    pair: list[str],
    *,
    top: int,
    out: Path | None,
    json: bool,
    config_dir: str | None,
) -> None:
    from tfcli.engine.use.answers import answers

    found = answers(folder, settings, text, pair, top=top, config_dir=config_dir)
    if "classes" in found[0]:
        _show(found, "text", out=out, json=json)
        return
    from tfcli.cli.console import emit_json, table

    if out:
        _to_csv(out, ["text", "answer"], [[row["text"], row["answer"]] for row in found])
    if json:
        emit_json(found)
        return
    shown = [{"text": row["text"], "answer": row["answer"] if row["answer"] != "" else "(no answer)"} for row in found]
    table(None, {"text": "text", "answer": "answer"}, shown)


def _show(found: list[dict[str, Any]], what: str, *, out: Path | None, json: bool) -> None:
    """Print a row for each file or text: its best classes with their probabilities.

    Raises:
        TfcliError: some files could not be used; they are named after the others are shown.
    """
    _table([row for row in found if "error" not in row], found, what, out=out, json=json)
    bad = [row for row in found if "error" in row]
    if bad:
        listing = "\n".join(f"  {row[what]}: {row['error']}" for row in bad)
        files = len({row[what] for row in found})
        raise TfcliError(f"{len(bad):,} of {files:,} files cannot be used and have no prediction:\n{listing}")


def _table(
    usable: list[dict[str, Any]], found: list[dict[str, Any]], what: str, *, out: Path | None, json: bool
) -> None:
    from tfcli.cli.console import emit_json, table

    def pairs(row: dict[str, Any]) -> Iterator[tuple[int, str, float]]:
        numbers = range(1, len(row["classes"]) + 1)
        return zip(numbers, row["classes"], row["probabilities"], strict=True)

    keys = [what, *(["question"] if "question" in usable[0] else [])]
    if out:
        lines = [[*(row[k] for k in keys), i, name, f"{p:.6f}"] for row in usable for i, name, p in pairs(row)]
        _to_csv(out, [*keys, "rank", "class", "probability"], lines)
    if json:
        emit_json(found)
        return
    flat = [row | {f"class{i}": f"{name} {p:.3f}" for i, name, p in pairs(row)} for row in usable]
    width = max(len(row["classes"]) for row in usable)
    table(None, {**{k: k for k in keys}, **{f"class{i + 1}": f"{i + 1}" for i in range(width)}}, flat)


def _to_csv(path: Path, head: list[str], lines: list[list[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(lines)
