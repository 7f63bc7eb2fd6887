"""Ids and places of tokens as arrays, for texts of any size. Imports no torch.

The `tokenizers` library takes more time for a letter of a long text than of a short one, and its lists of places take
time and memory. Where a vocabulary spells every text letter by letter or byte by byte, its ids tell the places.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

STRIP = 1000
"""Number of characters after which a text is cut for the library, at the end of the line."""
_INSIDE = re.compile(r"\S\n\S")


class Encoded(NamedTuple):
    """The ids (N,) of a text, and of each id the first character and the one after the last."""

    ids: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


class ArrayEncoder:
    """Encodes texts as arrays.

    Args:
        backend: of the `tokenizers` library.
        chars: whether every character that the vocabulary has is a token by itself.
        unk_id: id of an unknown character; None where there is none.
    """

    def __init__(self, backend: Backend, *, chars: bool, unk_id: int | None):
        content = json.loads(backend.to_str())
        self.backend = backend
        self.added = {token["content"]: token["id"] for token in content["added_tokens"]}
        self.spelled = re.compile("|".join(map(re.escape, sorted(self.added, key=len, reverse=True))))
        self.letters = _letters(backend, content, unk_id) if chars and unk_id is not None else None
        self.widths = _widths(content)

    def __call__(self, texts: Sequence[str]) -> Iterator[Encoded]:
        """Yield the ids and the places of each text, without any special token that it does not spell out."""
        if self.widths is not None:
            yield from self._by_bytes(texts, self.widths)
        elif self.letters is not None:
            for text in texts:
                yield self._by_letters(text, self.letters)
        else:
            for piece in self.backend.encode_batch(list(texts), add_special_tokens=False):
                ids = np.array(piece.ids, dtype=np.int64)
                spans = np.fromiter(chain.from_iterable(piece.offsets), np.int64, 2 * len(ids))
                yield Encoded(ids, spans[::2], spans[1::2])

    def _by_letters(self, text: str, letters: np.ndarray) -> Encoded:
        ids = letters[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)]
        starts = np.arange(len(text))
        stops = starts + 1
        if not any(name in text for name in self.added):
            return Encoded(ids, starts, stops)
        kept = np.ones(len(text), dtype=bool)
        for found in self.spelled.finditer(text):
            first, last = found.span()
            ids[first], stops[first], kept[first + 1 : last] = self.added[found[0]], last, False
        return Encoded(ids[kept], starts[kept], stops[kept])

    def _by_bytes(self, texts: Sequence[str], widths: np.ndarray) -> Iterator[Encoded]:
        cut = [list(_strips(text)) for text in texts]
        found = iter(self.backend.encode_batch_fast(list(chain.from_iterable(cut)), add_special_tokens=False))
        for text, strips in zip(texts, cut, strict=True):
            ids = np.fromiter(chain.from_iterable(next(found).ids for _ in strips), np.int64)
            begins = np.frombuffer(text.encode(), dtype=np.uint8) & 0xC0 != 0x80
            characters = np.cumsum(begins)  # up to each byte, with its own
            ends = np.cumsum(widths[ids])
            yield Encoded(ids, characters[ends - widths[ids]] - 1, characters[ends - 1])


def _strips(text: str) -> Iterator[str]:
    """Cut a text at ends of lines after which another begins at once: no token of GPT-2's pattern spans these."""
    begin = 0
    while found := _INSIDE.search(text, begin + STRIP):
        yield text[begin : found.end() - 1]
        begin = found.end() - 1
    yield text[begin:]


def _letters(backend: Backend, content: dict[str, Any], unk_id: int) -> np.ndarray | None:
    """Return the id of each code point; None where the text or an added token's neighbours are changed before."""
    model = content["model"]
    changed = [content["normalizer"], content["pre_tokenizer"], model.get("continuing_subword_prefix")]
    changed += [model.get("end_of_word_suffix"), model.get("fuse_unk"), model.get("byte_fallback")]
    changed += [token["lstrip"] or token["rstrip"] or token["single_word"] for token in content["added_tokens"]]
    if any(changed) or model["unk_token"] != backend.id_to_token(unk_id):
        return None
    letters = np.full(0x110000, unk_id, dtype=np.int64)
    for name, number in model["vocab"].items():
        if len(name) == 1:
            letters[ord(name)] = number
    return letters


def _widths(content: dict[str, Any]) -> np.ndarray | None:
    """Return the number of bytes of each token of a vocabulary like GPT-2's; None for any other.

    Its tokens are the bytes of the text in sequence, and no token except white space contains a line break.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    model, cut, after = content["model"], content["pre_tokenizer"] or {}, content["post_processor"]
    if model["type"] != "BPE" or cut.get("type") != "ByteLevel" or not cut["use_regex"] or cut["add_prefix_space"]:
        return None
    if after and (after["type"] != "ByteLevel" or after["trim_offsets"]):
        return None
    changed = [content["normalizer"], model.get("continuing_subword_prefix"), model.get("end_of_word_suffix")]
    changed += [token["lstrip"] or token["rstrip"] or "\n" in token["content"] for token in content["added_tokens"]]
    if any(changed) or not set(ByteLevel.alphabet()) <= model["vocab"].keys():
        return None
    sizes = {number: len(name) for name, number in model["vocab"].items()}
    sizes |= {token["id"]: len(token["content"].encode()) for token in content["added_tokens"]}
    widths = np.zeros(max(sizes) + 1, dtype=np.int64)
    widths[list(sizes)] = list(sizes.values())
    return widths
