"""Models of the `tokenizers` library, each with the way its text is cut up and joined again. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MARKS = [("<|startoftext|>", "<|endoftext|>"), ("<start_of_text>", "<end_of_text>"), ("<sos>", "<eos>")]
"""Start and end of a text tower's texts: OpenAI's names, open_clip's, ours."""
ROLES = {
    "pad": ("<pad>", "[PAD]"),
    "unk": ("<unk>", "[UNK]"),
    "bos": ("<bos>", "<s>", *(start for start, _ in MARKS), "<|endoftext|>"),
    "eos": ("<eos>", "</s>", *(end for _, end in MARKS)),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
    "mask": ("[MASK]", "<mask>"),
}
"""Names of the special tokens, ours first. GPT-2's one token is both start and end."""
WORD_PIECES = r"[\p{L}\p{M}\p{N}_]+|[^\s\p{L}\p{M}\p{N}_]"
CLIP_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def char_level(names: Sequence[str], *, lower: bool) -> Backend:
    """Return a vocabulary with an id for each character: byte pairs without a pair."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models

    backend = Backend(models.BPE(numbered(names), [], unk_token="<unk>"))
    backend.decoder = decoders.Fuse()
    return _finished(backend, lower)


def word_level(names: Sequence[str], *, lower: bool) -> Backend:
    """Return a vocabulary with an id for each word or punctuation mark. Decoding puts spaces where English has them."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models

    backend = Backend(models.WordLevel(numbered(names), unk_token="<unk>"))
    backend.pre_tokenizer = word_pieces()
    closed = [decoders.Replace(f" {sign}", sign) for sign in ".,;:!?)%"] + [decoders.Replace("( ", "(")]
    backend.decoder = decoders.Sequence([decoders.WordPiece(prefix="\0", cleanup=False), decoders.Fuse(), *closed])
    return _finished(backend, lower)


def _finished(backend: Backend, lower: bool) -> Backend:
    from tokenizers import normalizers

    if lower:
        backend.normalizer = normalizers.Lowercase()
    backend.add_special_tokens(list(SPECIALS))
    return backend


def word_pieces() -> Any:
    """Return the pre-tokenizer that splits a text into words and punctuation and drops the spaces."""
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex(WORD_PIECES), behavior="removed", invert=True)


def byte_level(model: Any, *, spaced: bool = False) -> Backend:
    """Return a model of byte pairs with GPT-2's way to cut text.

    Args:
        model: of the `tokenizers` library.
        spaced: the first word has a space before it, too.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, pre_tokenizers

    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    backend.decoder = decoders.ByteLevel()
    return backend


def bert_level(ids: dict[str, int], *, lower: bool) -> Backend:
    """Return WordPiece with BERT's way to cut text (Devlin et al. 2019; the longest piece first).

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


def gpt1_level(model: Any) -> Backend:
    """Return a model of character pairs with GPT-1's way to cut text; the last piece of a word carries `</w>`."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, normalizers, pre_tokenizers

    backend = Backend(model)
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.BPEDecoder(suffix="</w>")
    return backend


def clip_level(model: Any, marks: Sequence[str]) -> Backend:
    """Return a model of byte pairs with CLIP's way to cut clean text; the last piece of a word carries `</w>`."""
    from tokenizers import AddedToken, Regex, decoders, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    backend = Backend(model)
    pieces = pre_tokenizers.Split(Regex(CLIP_PIECES), behavior="removed", invert=True)
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pieces, level])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("</w>", " "), decoders.ByteLevel()]  # type: ignore[list-item]
    )
    backend.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    return backend


def numbered(names: Sequence[str]) -> dict[str, int]:
    """Return each name with its place."""
    return {name: number for number, name in enumerate(names)}
