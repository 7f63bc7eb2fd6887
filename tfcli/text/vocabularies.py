"""Vocabularies of the `tokenizers` library: read from the files of others, or made from texts. Imports no torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfcli.errors import ConfigError, DataError
from tfcli.text.clean import clean
from tfcli.text.files import pair, read_backend, read_ids, read_json, read_merges, read_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

MARKS = [("<|startoftext|>", "<|endoftext|>"), ("<start_of_text>", "<end_of_text>"), ("<sos>", "<eos>")]
"""Start and end tokens: OpenAI's names, open_clip's, ours."""
CLIP_MERGES, CLIP_VOCABULARY = 48_894, 49_408
CLIP_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
WORD_PIECES = r"[\p{L}\p{M}\p{N}_]+|[^\s\p{L}\p{M}\p{N}_]"


def from_merges(path: Path) -> Backend:
    """OpenAI's file: a line of version, then more pairs than are used; the vocabulary follows from their order."""
    lines = read_text(path).split("\n")[1 : CLIP_MERGES + 1]
    if len(lines) < CLIP_MERGES:
        raise DataError(f"`{path}` has {len(lines):,} pairs, CLIP's vocabulary {CLIP_MERGES:,}: the file is cut off.")
    merges = [pair(line, path) for line in lines]
    symbols = list(_byte_symbols())
    names = [*symbols, *(symbol + "</w>" for symbol in symbols), *(a + b for a, b in merges), *MARKS[0]]
    if len(names) != CLIP_VOCABULARY or len(set(names)) != CLIP_VOCABULARY:
        raise DataError(f"`{path}` does not give CLIP's vocabulary of {CLIP_VOCABULARY:,} tokens.")
    return _clip_pairs({name: number for number, name in enumerate(names)}, merges)


def from_pairs(vocabulary: Path, merges: Path) -> Backend:
    """The `vocab.json` and `merges.txt` of a transformers folder, for a vocabulary in CLIP's manner."""
    return _clip_pairs(read_ids(vocabulary), read_merges(merges))


def _clip_pairs(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Backend:
    """Byte-level pairs whose last symbol in a word carries `</w>`."""
    from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    try:
        backend = Backend(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
    except Exception as error:  # the library raises bare exceptions
        raise DataError(f"the pairs and the vocabulary do not agree: {str(error).splitlines()[0][:200]}") from error
    pieces = pre_tokenizers.Split(Regex(CLIP_PIECES), behavior="removed", invert=True)
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pieces, level])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("</w>", " "), decoders.ByteLevel()]  # type: ignore[list-item]
    )
    marks = next((pair for pair in MARKS if pair[1] in vocabulary), ())
    backend.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    return backend


def words(texts: Sequence[str], vocab_size: int | None) -> Backend:
    """A word an id, in alphabetical order between the marks; the most frequent ones where `vocab_size` is a limit."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    if vocab_size is not None and vocab_size < 5:
        raise ConfigError(f"`model.tokenizer.vocab_size` must be at least 5 (four marks, one word), not {vocab_size}.")
    ranked = most_frequent(count_words(texts, clean), None if vocab_size is None else vocab_size - 4)
    names = ["<pad>", "<unk>", *ranked, *MARKS[2]]
    backend = Backend(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = word_pieces()
    return backend


def word_pieces() -> Any:
    """Return the pre-tokenizer that splits a text into words and punctuation and drops the spaces."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex(WORD_PIECES), behavior="removed", invert=True)


def count_words(texts: Sequence[str], prepare: Callable[[str], str]) -> Counter[str]:
    """Count each word and punctuation mark in the prepared texts."""
    pieces = word_pieces()
    counts: Counter[str] = Counter()
    for text, times in Counter(texts).items():
        for word, _span in pieces.pre_tokenize_str(prepare(text)):
            counts[word] += times
    return counts


def most_frequent(counts: Counter[str], room: int | None) -> list[str]:
    """The `room` most frequent ones, all where it is None, in order of their characters."""
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return sorted(ranked[:room])


def byte_pairs(texts: Sequence[str], vocab_size: int) -> Backend:
    """Byte-level pairs as GPT-2's, trained on `texts`: a space belongs to the word that follows it."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if vocab_size < 256 + 3:
        raise ConfigError(
            f"`model.tokenizer.vocab_size` must be at least 259 (256 bytes and three marks), not {vocab_size}."
        )
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        special_tokens=["<pad>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator((clean(text) for text in texts), trainer)
    backend.add_special_tokens(list(MARKS[2]))
    return backend


def from_json(path: Path) -> tuple[Backend, int | None]:
    """A `tokenizer.json`, and the length that it pads to, where it says so."""
    backend = read_backend(path)
    return backend, (backend.padding or {}).get("length")


def kind_of(backend: Backend, path: Path) -> str:
    """words, bpe or clip, by the model inside."""
    model = json.loads(backend.to_str())["model"]
    if model["type"] == "WordLevel":
        return "words"
    if model["type"] == "BPE":
        return "clip" if model.get("end_of_word_suffix") == "</w>" else "bpe"
    raise DataError(
        f"`{path}` is a tokenizer of type {model['type']}; words (WordLevel) and byte pairs (BPE) are read."
    )


def stated_beside(path: Path) -> int | None:
    """The context in the `tokenizer_config.json` of a transformers folder."""
    file = path.with_name("tokenizer_config.json")
    if not file.is_file():
        return None
    content = read_json(file)
    length = content.get("model_max_length") if isinstance(content, dict) else None
    return length if isinstance(length, int) and 3 <= length <= 2**16 else None


def _byte_symbols() -> Iterator[str]:
    """One visible character a byte, in CLIP's order of ids: printable bytes first, the others moved up from 256."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    yield from map(chr, printable)
    yield from map(chr, range(256, 256 + 256 - len(printable)))
