"""The base class of samples of text."""

from __future__ import annotations

from typing import Any

import numpy as np


class Sequences:
    """Base of samples that are token sequences in memory; a subclass sets `lengths` and defines `batch`.

    Attributes:
        token_mean: whether their loss is a mean over the tokens of a batch, not over its samples. With `data.bucket`,
            batches then have about equal numbers of tokens, so that no token counts more than another.
    """

    counted, cut, in_memory, token_mean = "tokens", 0, True, False
    notes: tuple[str, ...] = ()
    lengths: np.ndarray

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Any]:
        raise NotImplementedError

    def blank(self, size: int, *, seed: int) -> dict[str, Any]:
        """Return a batch of the longest samples."""
        longest = np.argsort(-self.lengths, kind="stable")[:size]
        return self.batch(longest, seed=seed, epoch=0)
