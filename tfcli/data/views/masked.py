"""View of documents for BERT's pre-training: masked language modelling and next-sentence prediction."""

from __future__ import annotations

import re
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from tfcli.bounds import Bounds, Fraction
from tfcli.data.common.counter_rng import below, hash64, uniform
from tfcli.data.common.rows import Columns, padded
from tfcli.data.texts.sequences import Sequences
from tfcli.errors import ConfigError, DataError
from tfcli.text.frames import Frame
from tfcli.text.tokenizer import Tokenizer

SENTENCES = re.compile(r"\n+|(?<=[.!?]) +(?=[^a-z\s])")
"""Boundaries of sentences: line breaks, and `.`, `!` or `?` before a space that no small letter follows."""


class MaskedPairs:
    """View of pairs of text segments in which some tokens are masked and must be predicted.

    A stretch is a run of consecutive sentences of one document. It is split into a first and a second segment; half of
    the time, another stretch replaces the second segment (Devlin et al. 2019, section 3.1, task 2). A stretch of one
    sentence stays whole. The split, the second segment and the masked tokens are drawn anew in each epoch ("dynamic
    masking", Liu et al. 2019, section 4.1) as functions of (seed, epoch, row). Evaluation makes the same draws every
    time and masks 15 % of the tokens with BERT's proportions, whatever the training settings are, so that runs can be
    compared.

    Args:
        mask_fraction: fraction of the tokens that the model must predict.
        masked_fraction: fraction of these that [MASK] replaces.
        random_fraction: fraction of these that a random token replaces; the others stay unchanged.
        next_sentence: whether the model also predicts if the second segment follows; if False, stretches stay whole.

    Raises:
        ConfigError: a fraction is out of its range, or two of them exceed 1 together.
    """

    unit, reads_text = "stretches", True

    def __init__(
        self,
        *,
        mask_fraction: Annotated[float, Bounds(above=0, below=1)] = 0.15,
        masked_fraction: Fraction = 0.8,
        random_fraction: Fraction = 0.1,
        next_sentence: bool = True,
    ):
        if not 0 < mask_fraction < 1:
            raise ConfigError(f"`task.view.mask_fraction` must lie between 0 and 1, but is {mask_fraction}.")
        if masked_fraction + random_fraction > 1 + 1e-9:
            raise ConfigError(
                "`task.view.masked_fraction` and `random_fraction` must not exceed 1 together, but their sum is "
                f"{masked_fraction + random_fraction:g}."
            )
        self.mask_fraction, self.masked_fraction, self.random_fraction = mask_fraction, masked_fraction, random_fraction
        self.next_sentence = next_sentence

    def encode(self, rows: Columns, tokenizer: Tokenizer, *, length: int | None, train: bool) -> Stretches:
        """Return the samples of one split.

        Raises:
            ConfigError: the vocabulary has no [MASK].
            DataError: there is no text.
        """
        if tokenizer.mask_id is None:
            raise ConfigError(
                f"words are hidden behind [MASK], which a tokenizer of kind {tokenizer.kind} does not have. "
                "Take model.tokenizer.kind=wordpiece."
            )
        return Stretches(rows["text"], tokenizer, self, length=length or 512, train=train)


class Stretches(Sequences):
    """Documents of one split, cut into stretches of at most `length` tokens including special tokens.

    Args:
        texts: the documents.
        tokenizer: the model's tokenizer.
        view: the settings for masking.
        length: largest number of tokens N of a sample.
        train: whether the random choices change in each epoch.
    """

    def __init__(self, texts: list[str], tokenizer: Tokenizer, view: MaskedPairs, *, length: int, train: bool):
        self.frame, self.view, self.train = Frame(tokenizer, "cls"), view, train
        self.masking = view if train else MaskedPairs()
        assert tokenizer.mask_id is not None
        self.mask, self.vocab_size = tokenizer.mask_id, tokenizer.vocab_size
        specials = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
        self.plain = np.setdiff1d(np.arange(self.vocab_size), [i for i in specials if i is not None])
        self.is_plain = np.isin(np.arange(self.vocab_size), self.plain)
        self.room = length - (3 if view.next_sentence else 2)
        self.stretches: list[list[list[int]]] = []
        for text in texts:
            parts = [part for part in SENTENCES.split(text) if part.strip()]
            self.stretches += _stretches([ids for ids in tokenizer.encode(parts) if ids], self.room)
        if not self.stretches:
            raise DataError("there is no text to mask words of.")
        self.lengths = np.array([2 + sum(map(len, s)) + (len(s) > 1) for s in self.stretches], dtype=np.int64)

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Tensor]:
        """Return tokens, segments, valid and target (B, N), and next (B).

        `target` is -100 at tokens that need not be predicted. `next` is 0 where the second segment follows the first,
        1 where it is a random one, and -100 where there is no second segment.
        """
        epoch = epoch if self.train else 0
        framed, follows = [], []
        for row in rows:
            text, second, label = self._pair(int(row), seed, epoch)
            framed.append(self.frame.pair(text, second))
            follows.append(label)
        masked = [self._masked(np.array(f.ids), int(row), seed, epoch) for f, row in zip(framed, rows, strict=True)]
        arrays = {
            "tokens": padded([ids for ids, _ in masked], self.frame.pad),
            "target": padded([target for _, target in masked], -100),
            "segments": padded([np.array(f.segments) for f in framed], 0),
            "valid": padded([np.ones(len(f.ids), bool) for f in framed], False),
            "next": np.array(follows, dtype=np.int64),
            "index": rows,
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _pair(self, row: int, seed: int, epoch: int) -> tuple[list[int], list[int] | None, int]:
        """Return the first segment, the second segment if there is one, and the target `next` of `batch`."""
        stretch = self.stretches[row]
        if not self.view.next_sentence or len(stretch) == 1:
            return _joined(stretch), None, -100
        where, other, coin = hash64(seed, "next", epoch, row, np.arange(3))
        cut = 1 + int(below(where[None], len(stretch) - 1)[0])
        text = _joined(stretch[:cut])
        if int(coin) >> 63 == 0 or len(self.stretches) == 1:
            return text, _joined(stretch[cut:]), 0
        chosen = (row + 1 + int(below(other[None], len(self.stretches) - 1)[0])) % len(self.stretches)
        whole = _joined(self.stretches[chosen])
        return text, whole[: self.room - len(text)] or whole[:1], 1

    def _masked(self, ids: np.ndarray, row: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the token ids after masking, and the target of each token."""
        free = np.flatnonzero(self.is_plain[ids])
        count = max(1, round(self.masking.mask_fraction * len(free)))
        order, how, drawn = (hash64(seed, name, epoch, row, free) for name in ("mask", "how", "token"))
        chosen = np.argsort(order, kind="stable")[:count]
        target, hidden = np.full(len(ids), -100, dtype=np.int64), ids.astype(np.int64)
        places, share = free[chosen], uniform(how[chosen])
        target[places] = ids[places]
        behind = share < self.masking.masked_fraction
        random = ~behind & (share < self.masking.masked_fraction + self.masking.random_fraction)
        hidden[places[behind]] = self.mask
        hidden[places[random]] = self.plain[below(drawn[chosen][random], len(self.plain))]
        return hidden, target


def _joined(parts: list[list[int]]) -> list[int]:
    return [number for part in parts for number in part]


def _stretches(sentences: list[list[int]], room: int) -> list[list[list[int]]]:
    """Group consecutive sentences into stretches of at most `room` tokens; split the sentences that are longer."""
    pieces = [ids[i : i + room] for ids in sentences for i in range(0, len(ids), room)]
    found: list[list[list[int]]] = []
    size = room + 1
    for piece in pieces:
        if size + len(piece) > room:
            found.append([])
            size = 0
        found[-1].append(piece)
        size += len(piece)
    return found
