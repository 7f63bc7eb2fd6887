"""Vocabularies that others published, read from their files. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfcli.errors import DataError
from tfcli.text.backends import BERT_SPECIALS, MARKS, ROLES, bert_level, byte_level, clip_level, gpt1_level, numbered
from tfcli.text.files import pair, read_backend, read_ids, read_json, read_merges, read_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

FORMATS = (
    "tokenizer.json, vocab.json with merges.txt (GPT-2, GPT-1, CLIP), vocab.txt (BERT) or bpe_simple_vocab_16e6.txt.gz "
    "(CLIP)"
)
CLIP_MERGES, CLIP_VOCABULARY = 48_894, 49_408


def file_in(folder: Path) -> Path:
    """Return the file of a folder's tokenizer.

    Raises:
        DataError: it holds none.
    """
    if (folder / "tokenizer.json").is_file():
        return folder / "tokenizer.json"
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return folder / "vocab.json"
    for file in (folder / "vocab.txt", *sorted(folder.glob("bpe_simple_vocab_16e6.txt*"))):
        if file.is_file():
            return file
    pieces = sorted(entry.name for pattern in ("*.spm", "*.model") for entry in folder.glob(pattern))
    if pieces:
        raise DataError(
            f"`{folder}` holds only SentencePiece files ({', '.join(pieces)}), which are not read. Put the "
            "`tokenizer.json` of the same model beside them; of Marian's models (opus-mt-...) converted copies on the "
            "hub have one (Xenova/opus-mt-...)."
        )
    raise DataError(f"`{folder}` holds no tokenizer. Looked for {FORMATS}.")


def read_vocabulary(file: Path, *, lower: bool | None = None) -> Backend:
    """Read a file of one of `FORMATS`.

    Args:
        file: it is there.
        lower: of a `vocab.txt`, which does not say it.

    Raises:
        DataError: it is none of these.
    """
    if file.name in ("vocab.json", "merges.txt"):
        return _pairs(file.with_name("vocab.json"))
    if ".txt" not in file.suffixes:
        return read_backend(file)
    lines = read_text(file).replace("\r\n", "\n").split("\n")
    return _clip_merges(lines, file) if "#version" in lines[0] else _wordpiece(lines, file, lower)


def _pairs(vocabulary: Path) -> Backend:
    """Read GPT-2's files, or GPT-1's and CLIP's, whose words end in `</w>`."""
    from tokenizers import models

    ids, merges = read_ids(vocabulary), read_merges(vocabulary.with_name("merges.txt"))
    marks = next((pair for pair in MARKS if set(pair) <= set(ids)), ())
    options: dict[str, Any] = {}
    if any(name.endswith("</w>") for name in ids):
        options = {"end_of_word_suffix": "</w>"} | ({} if marks else {"unk_token": "<unk>"})
    try:
        model = models.BPE(vocab=ids, merges=merges, **options)
    except Exception as error:  # the library raises bare exceptions
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"`{vocabulary}` and the merges.txt beside it do not agree: {reason}") from error
    if options and marks:
        return clip_level(model, marks)
    backend = gpt1_level(model) if options else byte_level(model)
    backend.add_special_tokens([name for name in {n: 0 for names in ROLES.values() for n in names} if name in ids])
    return backend


def _clip_merges(lines: list[str], file: Path) -> Backend:
    """Read OpenAI's file: a line of version, then more pairs than are used; the vocabulary follows."""
    from tokenizers import models

    lines = lines[1 : CLIP_MERGES + 1]
    if len(lines) < CLIP_MERGES:
        raise DataError(f"`{file}` has {len(lines):,} pairs, CLIP's vocabulary {CLIP_MERGES:,}: the file is cut off.")
    merges = [pair(line, file) for line in lines]
    symbols = list(_byte_symbols())
    names = [*symbols, *(symbol + "</w>" for symbol in symbols), *(a + b for a, b in merges), *MARKS[0]]
    if len(names) != CLIP_VOCABULARY or len(set(names)) != CLIP_VOCABULARY:
        raise DataError(f"`{file}` does not give CLIP's vocabulary of {CLIP_VOCABULARY:,} tokens.")
    return clip_level(models.BPE(vocab=numbered(names), merges=merges, end_of_word_suffix="</w>"), MARKS[0])


def _byte_symbols() -> Iterator[str]:
    """Yield a visible character for each byte, in CLIP's order: printable bytes first, the others moved up from 256."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    yield from map(chr, printable)
    yield from map(chr, range(256, 256 + 256 - len(printable)))


def _wordpiece(lines: list[str], file: Path, lower: bool | None) -> Backend:
    while lines and not lines[-1]:
        lines.pop()
    lacking = [name for name in BERT_SPECIALS if name not in lines]
    if lacking:
        raise DataError(f"`{file}` is no vocabulary of BERT's: it lacks {', '.join(lacking)}.")
    if lower is None:
        beside = file.with_name("tokenizer_config.json")
        stated = read_json(beside) if beside.is_file() else {}
        given = stated.get("do_lower_case") if isinstance(stated, dict) else None
        lower = given if isinstance(given, bool) else not any(p != p.lower() for p in lines if p[:1] != "[")
    return bert_level(numbered(lines), lower=lower)
