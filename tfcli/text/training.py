"""Vocabularies of sub-words made from a corpus, the same ones each time. Imports no torch.

A vocabulary of source and target languages together (Vaswani et al. 2017, section 5.1) is one made from both texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tfcli.errors import ConfigError
from tfcli.text.vocabularies import count_words, most_frequent, word_pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SPACE = "\u2581"
SPACED_PIECES = rf"{SPACE}?[\p{{L}}\p{{M}}]+|{SPACE}?\p{{N}}+|{SPACE}?[^\s{SPACE}\p{{L}}\p{{M}}\p{{N}}]+|{SPACE}|\s"
"""Words, numbers and runs of signs, each with the space before it: no sub-word reaches over two of them."""
VOCABULARY = 4096
LEAST = 2
"""Smallest count at which a pair becomes a sub-word."""
_NO_WORD = re.compile(r"\w{2000,}")
"""A run of letters that is no word (a coded image): to learn pieces of it takes the square of its length."""


def train(kind: str, texts: Sequence[str], *, vocab_size: int | None, lower: bool) -> Backend:
    """A vocabulary of some kind.

    Args:
        kind: chars, words, bpe, byte_bpe or wordpiece.
        texts: the corpus.
        vocab_size: V; 4,096 where it is not given, and of chars and words all there are. A small corpus may give less.
        lower: everything in lower case (and of wordpiece without accents).

    Raises:
        ConfigError: `vocab_size` has no room for the specials and the alphabet.
    """
    if kind not in ("chars", "words"):
        texts = [_NO_WORD.sub(" ", text) for text in texts]
    recipe = {"chars": _chars, "words": _words, "bpe": _bpe, "byte_bpe": _byte_bpe, "wordpiece": _wordpiece}[kind]
    return recipe(texts, vocab_size, lower)


def _chars(texts: Sequence[str], vocab_size: int | None, lower: bool) -> Backend:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.lower() if lower else text)
    return char_level([*SPECIALS, *most_frequent(counts, _room(vocab_size))], lower=lower)


def char_level(names: Sequence[str], *, lower: bool) -> Backend:
    """A character an id: byte pairs without a pair."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models

    backend = Backend(models.BPE(_numbered(names), [], unk_token="<unk>"))
    backend.decoder = decoders.Fuse()
    return _finished(backend, lower)


def _words(texts: Sequence[str], vocab_size: int | None, lower: bool) -> Backend:
    counts = count_words(texts, str.lower if lower else str)
    return word_level([*SPECIALS, *most_frequent(counts, _room(vocab_size))], lower=lower)


def word_level(names: Sequence[str], *, lower: bool) -> Backend:
    """A word or a sign an id. Decoding puts spaces where English has them."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models

    backend = Backend(models.WordLevel(_numbered(names), unk_token="<unk>"))
    backend.pre_tokenizer = word_pieces()
    closed = [decoders.Replace(f" {sign}", sign) for sign in ".,;:!?)%"] + [decoders.Replace("( ", "(")]
    backend.decoder = decoders.Sequence([decoders.WordPiece(prefix="\0", cleanup=False), decoders.Fuse(), *closed])
    return _finished(backend, lower)


def _bpe(texts: Sequence[str], vocab_size: int | None, lower: bool) -> Backend:
    """Pairs of characters (Sennrich et al. 2016), the space before a word marked as SentencePiece does."""
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    backend = Backend(models.BPE(unk_token="<unk>"))
    marked: list[Any] = [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *marked] if lower else marked)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(SPACED_PIECES), behavior="isolated")
    backend.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return _train_pairs(backend, texts, vocab_size or VOCABULARY, alphabet=[])


def _byte_bpe(texts: Sequence[str], vocab_size: int | None, lower: bool) -> Backend:
    """Pairs of bytes (Radford et al. 2019): any text has ids, and comes back as it was."""
    from tokenizers import models, normalizers, pre_tokenizers

    backend = byte_level(models.BPE())
    if lower:
        backend.normalizer = normalizers.Lowercase()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return _train_pairs(backend, texts, vocab_size or VOCABULARY, alphabet=alphabet)


def byte_level(model: Any) -> Backend:
    """GPT-2's way to cut text around a model of byte pairs."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, pre_tokenizers

    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


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
    """BERT's pieces, found by pairs as the `tokenizers` library does, whose numbers are drawn anew in each process
    unless every character inside a word is given to it beforehand."""
    from tokenizers import trainers

    size = vocab_size or VOCABULARY
    backend = bert_level(_numbered(BERT_SPECIALS), lower=lower)
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


def bert_level(ids: dict[str, int], *, lower: bool) -> Backend:
    """BERT's way to cut text around WordPiece (Devlin et al. 2019; the longest piece first).

    Lower case goes without accents, as in the release.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    backend = Backend(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lower)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.add_special_tokens([name for name in BERT_SPECIALS if name in ids])
    return backend


def _finished(backend: Backend, lower: bool) -> Backend:
    from tokenizers import normalizers

    if lower:
        backend.normalizer = normalizers.Lowercase()
    backend.add_special_tokens(list(SPECIALS))
    return backend


def _numbered(names: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _room(vocab_size: int | None) -> int | None:
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
