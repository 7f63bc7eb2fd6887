"""Sentences and their translations as ids: what a sequence-to-sequence model is trained on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tfcli.data.common.rows import Columns, padded
from tfcli.data.texts.sequences import Sequences
from tfcli.text.tokenizer import Tokenizer


class Translations:
    """A source that ends in an end mark, and a target that is read from a start mark to an end mark.

    The target is given twice: `tokens`, what the decoder has read, and `target`, what it is to say next.
    """

    unit, reads_text = "pairs", True

    def encode(self, rows: Columns, tokenizer: Tokenizer, *, length: int | None, train: bool) -> Pairs:
        return Pairs(rows["source"], rows["target"], tokenizer, length=length)


class Pairs(Sequences):
    """Pairs of one split.

    Args:
        source, target: the sentences.
        tokenizer: of both sides.
        length: most tokens of either with its end mark; longer ones are cut before it.
    """

    def __init__(self, source: list[str], target: list[str], tokenizer: Tokenizer, *, length: int | None):
        assert tokenizer.eos_id is not None
        self.start = start_of(tokenizer)
        self.pad, self.end = tokenizer.pad_id or 0, np.array([tokenizer.eos_id])
        room = None if length is None else length - 1
        self.source, self.target = ([np.array(ids, np.int64) for ids in tokenizer.encode(t)] for t in (source, target))
        longest = np.maximum([len(ids) for ids in self.source], [len(ids) for ids in self.target])
        self.cut = int((longest > room).sum()) if room is not None else 0
        self.source = [np.concatenate([ids[:room], self.end]) for ids in self.source]
        self.target = [np.concatenate([ids[:room], self.end]) for ids in self.target]
        self.lengths = 1 + (longest if room is None else np.minimum(longest, room))

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Tensor]:
        """Pairs, each side padded behind: source (B, M) with `valid`, tokens and target (B, N)."""
        source = [self.source[row] for row in rows]
        target = [self.target[row] for row in rows]
        arrays = {
            "source": padded(source, self.pad),
            "valid": padded([np.ones(len(ids), bool) for ids in source], False),
            "tokens": padded([np.concatenate([[self.start], ids[:-1]]) for ids in target], self.pad),
            "target": padded(target, -100),
            "index": rows,
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def start_of(tokenizer: Tokenizer) -> int:
    """Return the first token of a translation: the start mark, or padding as in Marian, which has no start mark."""
    start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.pad_id
    assert start is not None
    return start
