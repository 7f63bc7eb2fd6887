"""Base of all samples of text."""

from __future__ import annotations

from typing import Any

import numpy as np


class Sequences:
    """Samples that are sequences of tokens, held in memory; a subclass has `lengths` and `batch`."""

    counted, cut, in_memory = "tokens", 0, True
    notes: tuple[str, ...] = ()
    lengths: np.ndarray

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Any]:
        raise NotImplementedError

    def blank(self, size: int, *, seed: int) -> dict[str, Any]:
        """Return the longest samples."""
        longest = np.argsort(-self.lengths, kind="stable")[:size]
        return self.batch(longest, seed=seed, epoch=0)
