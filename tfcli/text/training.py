"""Vocabularies made from a corpus, the same ones each time. Imports no torch.

A vocabulary of source and target languages together (Vaswani et al. 2017, section 5.1) is one made from both texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tfcli.errors import ConfigError
from tfcli.text.backends import (
    BERT_SPECIALS,
    MARKS,
    SPECIALS,
    bert_level,
    byte_level,
    char_level,
    numbered,
    word_level,
    word_pieces,
)
from tfcli.text.clean import clean

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

SPACE = "\u2581"
SPACED_PIECES = rf"{SPACE}?[\p{{L}}\p{{M}}]+|{SPACE}?\p{{N}}+|{SPACE}?[^\s{SPACE}\p{{L}}\p{{M}}\p{{N}}]+|{SPACE}|\s"
"""Words, numbers and runs of signs, each with the space before it: no sub-word reaches over two of them."""
VOCABULARY = 4096
LEAST = 2
"""Smallest count at which a pair becomes a sub-word."""
_NO_WORD = re.compile(r"\w{2000,}")
"""A run of letters that is no word (a coded image): to learn pieces of it takes the square of its length."""


def train(kind: str, texts: Sequence[str], *, vocab_size: int | None, lower: bool, captions: bool = False) -> Backend:
    """Return a vocabulary of some kind.

    Args:
        kind: one of `RECIPES`, or of `CAPTION_RECIPES`.
        texts: the corpus.
        vocab_size: V; 4,096 where it is not given, and of chars and words all there are. A small corpus may give less.
        lower: everything in lower case (and of wordpiece without accents).
        captions: texts of a text tower, which are cleaned as CLIP's are; the end of a text is the largest id.

    Raises:
        ConfigError: `vocab_size` has no room for the specials and the alphabet.
    """
    if captions:
        return CAPTION_RECIPES[kind](texts, vocab_size)
    if kind not in ("chars", "words"):
        texts = [_NO_WORD.sub(" ", text) for text in texts]
    return RECIPES[kind](texts, vocab_size, lower)


def _chars(texts: Sequence[str], vocab_size: int | None, lower: bool) -> Backend:
    import numpy as np

    counts: Counter[str] = Counter()
    for text in texts:
        codes = np.frombuffer((text.lower() if lower else text).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        found = np.bincount(codes)
        counts.update({chr(code): int(found[code]) for code in np.flatnonzero(found)})
    return char_level([*SPECIALS, *_most_frequent(counts, _room(vocab_size))], lower=lower)


def _words(texts: Sequence[str], vocab_size: int | None, lower: bool) -> Backend:
    counts = _count_words(texts, str.lower if lower else str)
    return word_level([*SPECIALS, *_most_frequent(counts, _room(vocab_size))], lower=lower)


def _bpe(texts: Sequence[str], vocab_size: int | None, lower: bool) -> Backend:
    """Train pairs of characters (Sennrich et al. 2016), the space before a word marked as SentencePiece does."""
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    backend = Backend(models.BPE(unk_token="<unk>"))
    marked: list[Any] = [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *marked] if lower else marked)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(SPACED_PIECES), behavior="isolated")
    backend.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return _train_pairs(backend, texts, vocab_size or VOCABULARY, alphabet=[])


def _byte_bpe(texts: Sequence[str], vocab_size: int | None, lower: bool) -> Backend:
    """Train pairs of bytes (Radford et al. 2019): any text has ids, and comes back as it was."""
    from tokenizers import models, normalizers, pre_tokenizers

    backend = byte_level(models.BPE())
    if lower:
        backend.normalizer = normalizers.Lowercase()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return _train_pairs(backend, texts, vocab_size or VOCABULARY, alphabet=alphabet)


def _train_pairs(backend: Backend, texts: Iterable[str], vocab_size: int, *, alphabet: list[str]) -> Backend:
    from tokenizers import trainers

    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=LEAST,
        special_tokens=list(SPECIALS),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    _check_size(backend, vocab_size)
    return backend


def _wordpiece(texts: Sequence[str], vocab_size: int | None, lower: bool) -> Backend:
    """Train BERT's pieces, which the `tokenizers` library finds by pairs.

    It numbers them anew in each process, unless every character inside a word is given to it beforehand.
    """
    from tokenizers import trainers

    size = vocab_size or VOCABULARY
    backend = bert_level(numbered(BERT_SPECIALS), lower=lower)
    letters: set[str] = set()
    for text in texts:
        letters.update(backend.normalizer.normalize_str(text))
    inside = [f"##{letter}" for letter in sorted(letters) if not letter.isspace()]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=LEAST, special_tokens=[*BERT_SPECIALS, *inside], show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    _check_size(backend, size)
    return bert_level(backend.get_vocab(with_added_tokens=False), lower=lower)


def _caption_words(texts: Sequence[str], vocab_size: int | None) -> Backend:
    """Give each word an id, in alphabetical order between the marks; the most frequent ones up to `vocab_size`."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    if vocab_size is not None and vocab_size < 5:
        raise ConfigError(f"`model.tokenizer.vocab_size` must be at least 5 (four marks, one word), not {vocab_size}.")
    room = None if vocab_size is None else vocab_size - 4
    names = ["<pad>", "<unk>", *_most_frequent(_count_words(texts, clean), room), *MARKS[-1]]
    backend = Backend(models.WordLevel(numbered(names), unk_token="<unk>"))
    backend.pre_tokenizer = word_pieces()
    return backend


def _caption_bpe(texts: Sequence[str], vocab_size: int | None) -> Backend:
    """Train pairs of bytes as GPT-2's: a space belongs to the word that follows it."""
    from tokenizers import models, pre_tokenizers, trainers

    vocab_size = vocab_size or VOCABULARY
    if vocab_size < 256 + 3:
        raise ConfigError(
            f"`model.tokenizer.vocab_size` must be at least 259 (256 bytes and three marks), not {vocab_size}."
        )
    backend = byte_level(models.BPE(), spaced=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        special_tokens=["<pad>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator((clean(text) for text in texts), trainer)
    backend.add_special_tokens(list(MARKS[-1]))
    return backend


RECIPES = {"chars": _chars, "words": _words, "bpe": _bpe, "byte_bpe": _byte_bpe, "wordpiece": _wordpiece}
CAPTION_RECIPES = {"words": _caption_words, "bpe": _caption_bpe}


def _count_words(texts: Sequence[str], prepare: Callable[[str], str]) -> Counter[str]:
    """Count each word and punctuation mark in the prepared texts."""
    pieces = word_pieces()
    counts: Counter[str] = Counter()
    for text, times in Counter(texts).items():
        for word, _span in pieces.pre_tokenize_str(prepare(text)):
            counts[word] += times
    return counts


def _most_frequent(counts: Counter[str], room: int | None) -> list[str]:
    """Return the `room` most frequent ones, all where it is None, in order of their characters."""
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return sorted(ranked[:room])


def _room(vocab_size: int | None) -> int | None:
    """Return how many words a vocabulary has besides the specials; None: any number."""
    if vocab_size is not None and vocab_size <= len(SPECIALS):
        raise ConfigError(
            f"`model.tokenizer.vocab_size` must be at least {len(SPECIALS) + 1} ({', '.join(SPECIALS)} and one more), "
            f"not {vocab_size}."
        )
    return None if vocab_size is None else vocab_size - len(SPECIALS)


def _check_size(backend: Backend, vocab_size: int) -> None:
    found = backend.get_vocab_size()
    if found > vocab_size:
        raise ConfigError(
            f"`model.tokenizer.vocab_size` is {vocab_size:,}, but the specials and the alphabet of this corpus alone "
            f"are {found:,}. Give more, or use byte_bpe, whose alphabet is 256 bytes."
        )
