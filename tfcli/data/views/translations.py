"""View of sentences and their translations for sequence-to-sequence models."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tfcli.data.common.rows import Columns, padded
from tfcli.data.texts.sequences import Sequences
from tfcli.text.tokenizer import Tokenizer


class Translations:
    """View of translation pairs: the source ends in an end token; the target has a start and an end token.

    A batch has the translation twice: `tokens` is the decoder's input, and `target` is the next token of each position.
    """

    unit, reads_text = "pairs", True

    def encode(self, rows: Columns, tokenizer: Tokenizer, *, length: int | None, train: bool) -> Pairs:
        return Pairs(rows["source"], rows["target"], tokenizer, length=length)


class Pairs(Sequences):
    """Translation pairs of one split.

    Args:
        source, target: the sentences and their translations.
        tokenizer: the tokenizer of both languages.
        length: largest number of tokens on either side, with its end token; longer sentences are truncated before it.
    """

    token_mean = True

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
        """Return pairs, padded on the right: source and valid (B, M), tokens and target (B, N)."""
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
    """Return the first token of a translation: the start token, or the padding token where there is none (Marian)."""
    start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.pad_id
    assert start is not None
    return start
