"""View of documents for BERT's pre-training: masked language modelling and next-sentence prediction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from tfcli.bounds import Bounds, Fraction
from tfcli.data.columns.filetext import FileText
from tfcli.data.common.counter_rng import below, hash64, uniform
from tfcli.data.common.rows import Columns, padded
from tfcli.data.texts.sequences import Sequences
from tfcli.data.texts.tokens import sentences
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

    token_mean = True

    def __init__(
        self, texts: Sequence[str | FileText], tokenizer: Tokenizer, view: MaskedPairs, *, length: int, train: bool
    ):
        self.frame, self.view, self.train = Frame(tokenizer, "cls"), view, train
        self.masking = view if train else MaskedPairs()
        assert tokenizer.mask_id is not None
        self.mask, self.vocab_size = tokenizer.mask_id, tokenizer.vocab_size
        specials = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
        self.plain = np.setdiff1d(np.arange(self.vocab_size), [i for i in specials if i is not None])
        self.is_plain = np.isin(np.arange(self.vocab_size), self.plain)
        self.room = length - (3 if view.next_sentence else 2)
        self.tokens = sentences(texts, tokenizer, SENTENCES)
        self.places, self.begins = _stretches(self.tokens["sentences"], self.tokens["documents"], self.room)
        if len(self.begins) < 2:
            raise DataError("there is no text to mask words of.")
        self.lengths = 2 + np.diff(self.places[self.begins]) + (np.diff(self.begins) > 1)

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
        ids = padded([np.array(f.ids) for f in framed], self.frame.pad)
        valid = padded([np.ones(len(f.ids), bool) for f in framed], False)
        tokens, target = self._masked(ids, valid, rows, seed, epoch)
        arrays = {
            "tokens": tokens,
            "target": target,
            "segments": padded([np.array(f.segments) for f in framed], 0),
            "valid": valid,
            "next": np.array(follows, dtype=np.int64),
            "index": rows,
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _pair(self, row: int, seed: int, epoch: int) -> tuple[list[int], list[int] | None, int]:
        """Return the first segment, the second segment if there is one, and the target `next` of `batch`."""
        first, last = int(self.begins[row]), int(self.begins[row + 1])
        if not self.view.next_sentence or last - first == 1:
            return self._ids(first, last), None, -100
        where, other, coin = hash64(seed, "next", epoch, row, np.arange(3))
        cut = first + 1 + int(below(where[None], last - first - 1)[0])
        text, count = self._ids(first, cut), len(self.lengths)
        if int(coin) >> 63 == 0 or count == 1:
            return text, self._ids(cut, last), 0
        chosen = (row + 1 + int(below(other[None], count - 1)[0])) % count
        whole = self._ids(int(self.begins[chosen]), int(self.begins[chosen + 1]))
        return text, whole[: self.room - len(text)] or whole[:1], 1

    def _ids(self, first: int, last: int) -> list[int]:
        """Return the tokens of some consecutive sentences."""
        return self.tokens["ids"][self.places[first] : self.places[last]].tolist()

    def _masked(
        self, ids: np.ndarray, valid: np.ndarray, rows: np.ndarray, seed: int, epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the token ids (B, N) after masking, and the target (B, N) of each token."""
        sample, place = np.nonzero(valid & self.is_plain[ids])
        free = np.bincount(sample, minlength=len(ids))
        order, how, drawn = (hash64(seed, name, epoch, rows[sample], place) for name in ("mask", "how", "token"))
        shuffled = np.lexsort((order, sample))
        rank = np.arange(len(sample)) - np.repeat(free.cumsum() - free, free)
        chosen = shuffled[rank < np.maximum(1, np.rint(self.masking.mask_fraction * free))[sample]]
        places, share = (sample[chosen], place[chosen]), uniform(how[chosen])
        behind = share < self.masking.masked_fraction
        random = ~behind & (share < self.masking.masked_fraction + self.masking.random_fraction)
        others = self.plain[below(drawn[chosen], len(self.plain))]
        target, hidden = np.full_like(ids, -100), ids.copy()
        target[places] = ids[places]
        hidden[places] = np.where(behind, self.mask, np.where(random, others, ids[places]))
        return hidden, target


def _stretches(sizes: np.ndarray, documents: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Group consecutive sentences of a document into stretches of at most `room` tokens; split longer sentences.

    Args:
        sizes: (S,) tokens of each sentence.
        documents: (D,) sentences of each document.
        room: largest number of tokens in a stretch.

    Returns:
        The place (P + 1,) in the tokens where each sentence or part of one begins, with the end of the last; and the
        sentence (K + 1,) with which each stretch begins, with the end of the last.
    """
    parts = -(-sizes.astype(np.int64) // room)
    ends = np.cumsum(sizes, dtype=np.int64)
    order = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    places = np.append(np.repeat(ends - sizes, parts) + room * order, ends[-1:])
    last = np.concatenate([[0], np.cumsum(parts)])[np.cumsum(documents, dtype=np.int64)]
    after = np.searchsorted(places, places[:-1] + room, side="right") - 1
    limit = np.repeat(last, np.diff(last, prepend=0))
    following = np.minimum(after, limit).tolist()
    begins = [0] if len(following) else []
    while begins and begins[-1] < len(following):
        begins.append(following[begins[-1]])
    return places, np.array(begins, dtype=np.int64)
