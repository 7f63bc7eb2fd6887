"""`tfcli sample`: write text with a language model, or translate with a translator."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfcli.cli.grouped import grouped
from tfcli.cli.options import ConfigDir, Json
from tfcli.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tfcli.engine.use.language_model import LoadedLanguageModel


def mount(app: typer.Typer) -> None:
    """Add `sample` to the program."""
    app.command()(grouped(sample))


@dataclass(frozen=True)
class Sampling:
    """Options of a language model: how the next token is chosen."""

    temperature: Annotated[
        float | None,
        typer.Option("--temperature", min=0.0, help="0: always the likeliest. By default the checkpoint's, or 1."),
    ] = None
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Sample only from the k most likely tokens.")] = (
        None
    )
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", help="Sample only from the most likely tokens whose probabilities add up to this."),
    ] = None
    repetition_penalty: Annotated[
        float | None, typer.Option("--repetition-penalty", min=1.0, help="Of tokens seen before.")
    ] = None


@dataclass(frozen=True)
class Search:
    """Options of a translator."""

    beam: Annotated[
        int | None,
        typer.Option("--beam", min=1, help="Width of the search for a translation. By default the model's own, or 4."),
    ] = None
    alpha: Annotated[float | None, typer.Option("--alpha", help="Its length penalty. Likewise, or 0.6.")] = None


def sample(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN|MODEL] [KEY=VALUE]...",
            help="A run, or a model with weights: gpt2 model.weights=FOLDER",
            show_default=False,
        ),
    ],
    text: Annotated[
        list[str] | None,
        typer.Option("--text", "-t", help="The text to continue, or a sentence to translate. May be repeated."),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", help="Read one text per line from this file; - is stdin.")
    ] = None,
    length: Annotated[int, typer.Option("--length", "-n", min=1, help="Most tokens to write.")] = 256,
    count: Annotated[int, typer.Option("--count", min=1, help="Continuations, or translations, of each text.")] = 1,
    start: Annotated[
        bool, typer.Option("--start", help="Put the mark that texts begin with, as <|endoftext|>, before the prompt.")
    ] = False,
    *,
    sampling: Sampling,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same text.")] = 0,
    search: Search,
    cache: Annotated[bool, typer.Option(help="Cache the keys and values of earlier tokens.")] = True,
    json: Json = False,
    config_dir: ConfigDir = None,
) -> None:
    """Continue a text, printed as it is written; or translate sentences, a line each."""
    drawn, searched = _given(sampling), _given(search)
    if not 0 < drawn.get("top_p", 1) <= 1:
        raise ConfigError(f"`--top-p` must lie above 0 and at most at 1, but is {drawn['top_p']:g}.")
    from tfcli.engine.runs.named import resolve_model

    settings = [w for w in words if "=" in w and not Path(w).exists()]
    rest = [w for w in words if w not in settings]
    run, settings = resolve_model(rest, settings, config_dir, takes="text")
    if rest:
        raise ConfigError(f"`{rest[0]}`: give the text to continue with --text.")
    texts = [*(text or []), *(_lines(file) if file else [])]
    from tfcli.engine.use.language_model import load_language_model

    loaded = load_language_model(run, settings, config_dir=config_dir)
    if loaded.translates:
        _translate(loaded, texts, searched, count=count, json=json)
        return
    loaded.check_writes()
    if searched:
        raise ConfigError("`--beam` and `--alpha` are for translators, and this model continues a text.")
    from tfcli.cli.console import emit_json, out, say
    from tfcli.decoding.sampling import Sampler
    from tfcli.engine.runs.terminal import write
    from tfcli.engine.use.sample import continuations, start_mark

    sampler, mark = Sampler(**loaded.sampling | drawn), start_mark(loaded)
    if run is not None and mark is not None and not start and any(texts):
        token = loaded.tokenizer.id_to_token(mark)
        say(f"the prompt is read as it is; this run was trained on texts after `{token}`, which --start puts before it")
    rows = []
    for number, (prompt, copy) in enumerate((prompt, copy) for prompt in texts or [""] for copy in range(count)):
        pieces = continuations(loaded, prompt, sampler, length=length, cache=cache, seed=seed + copy, start=start)
        if json:
            rows.append({"prompt": prompt, "text": "".join(pieces)})
            continue
        if number:
            out("---")
        write(sys.stdout, prompt)
        for piece in pieces:
            write(sys.stdout, piece)
        out()
    if json:
        emit_json(rows)


def _given(options: Sampling | Search) -> dict[str, Any]:
    """Return the options that were typed. Raises ConfigError for a number that is not finite."""
    found = {name: value for name, value in asdict(options).items() if value is not None}
    for name, value in found.items():
        if not isfinite(value):
            raise ConfigError(f"`--{name.replace('_', '-')}` must be a finite number, but is {value}.")
    return found


def _translate(
    loaded: LoadedLanguageModel, texts: list[str], search: dict[str, Any], *, count: int, json: bool
) -> None:
    from tfcli.cli.console import emit_json, out

    if not texts:
        raise ConfigError("a translator needs sentences: --text SENTENCE, or --file FILE.")
    from tfcli.engine.use.translate import translations

    found = translations(loaded, texts, beam=search.get("beam"), alpha=search.get("alpha"), count=count)
    if json:
        emit_json(found)
        return
    for row in found:
        for hypothesis in row["translations"]:
            out(hypothesis["text"])


def _lines(file: str) -> list[str]:
    """Read the lines of a file, or of stdin, that are not empty.

    Raises:
        DataError: it cannot be read.
    """
    try:
        whole = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"`{file}` cannot be read: {error}.") from error
    return [line for line in whole.splitlines() if line.strip()]
