"""`tfcli words`: compare the contextual vectors of a word in several sentences."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import typer

from tfcli.cli.options import ConfigDir, Json
from tfcli.errors import ConfigError


def mount(app: typer.Typer) -> None:
    app.command()(words)


def words(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|MODEL [KEY=VALUE]... SENTENCE SENTENCE...",
            help="A run of a BERT or GPT (or a model with weights), then sentences that contain the word.",
            show_default=False,
        ),
    ],
    word: Annotated[str, typer.Option("--word", "-w", help="The word to compare.")],
    layer: Annotated[
        str, typer.Option("--layer", metavar="N|all", help="Counted from 1.", show_default="the last")
    ] = "last",
    pool: Annotated[
        Literal["mean", "first"], typer.Option("--pool", help="How to pool a word of several sub-words.")
    ] = "mean",
    json: Json = False,
    config_dir: ConfigDir = None,
) -> None:
    """Print cosines between a word's vectors in several sentences, beside those of its static embedding.

    In a model that reads the context the "bank" of a river and the "bank" that lends money have different vectors.
    """
    settings = [w for w in given if re.match(r"[^\s=]+=", w)]
    rest = [w for w in given if w not in settings]
    from tfcli.engine.runs.named import resolve_model

    run, settings = resolve_model(rest, settings, config_dir, takes="text")
    if len(rest) < 2:
        raise ConfigError('`tfcli words` needs two sentences or more: tfcli words RUN "…" "…" --word bank')
    if layer not in ("all", "last") and not layer.isdecimal():
        raise ConfigError(f"`--layer` takes a number or `all`, but is `{layer}`.")
    from tfcli.engine.use.contextual_embeddings import word_vectors
    from tfcli.engine.use.language_model import load_language_model

    loaded = load_language_model(run, settings, config_dir=config_dir, inside=True)
    found = word_vectors(loaded, rest, word, pool=pool)
    count = len(found.layers)
    number = count if layer in ("all", "last") else int(layer)
    if not 1 <= number <= count:
        raise ConfigError(f"`--layer {layer}`: this model's layers are numbered from 1 to {count}.")
    from tfcli.cli.console import emit_json, table

    picked = {i: cosines for i, cosines in enumerate(found.layers, 1) if layer == "all" or i == number}
    if json:
        places = [{"sentence": w.sentence + 1, "text": w.text, "pieces": w.pieces} for w in found.words]
        numbers = {"static": found.static.tolist(), "layers": {str(i): c.tolist() for i, c in picked.items()}}
        emit_json({"word": word, "sentences": rest, "occurrences": places, **numbers})
        return
    title = f"{loaded.choices['model']} · {word}"
    said = [
        f"{rest[w.sentence]}  ({' '.join(w.pieces)})" if len(w.pieces) > 1 else rest[w.sentence] for w in found.words
    ]
    pairs = [(i, j) for j in range(len(said)) for i in range(j)]
    if layer == "all":
        rows: list[dict[str, str]] = [
            {"layer": str(name), **{f"{i + 1}–{j + 1}": f"{cosines[i, j]:.3f}" for i, j in pairs}}
            for name, cosines in [("embedding", found.static), *picked.items()]
        ]
        table(title, list(rows[0]), rows, notes=[f"{i}  {text}" for i, text in enumerate(said, 1)])
        return
    rows = [
        {"of": str(i), **{str(j): f"{value:.3f}" for j, value in enumerate(line, 1)}, "sentence": text}
        for i, (line, text) in enumerate(zip(picked[number].tolist(), said, strict=True), 1)
    ]
    static = sorted(f"{found.static[pair]:.3f}" for pair in pairs)
    alike = " to ".join(dict.fromkeys([static[0], static[-1]]))
    note = f"cosines after layer {number} of {count}; of the embedding, which does not see the sentence, {alike}"
    table(title, {name: name if name.isdecimal() else "" for name in rows[0]}, rows, notes=[note])
