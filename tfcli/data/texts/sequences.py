"""The base class of samples of text."""

from __future__ import annotations

from typing import Any

import numpy as np


class Sequences:
    """Base of samples that are token sequences in memory; a subclass sets `lengths` and defines `batch`."""

    counted, cut, in_memory = "tokens", 0, True
    notes: tuple[str, ...] = ()
    lengths: np.ndarray

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Any]:
        raise NotImplementedError

    def blank(self, size: int, *, seed: int) -> dict[str, Any]:
        """Return a batch of the longest samples."""
        longest = np.argsort(-self.lengths, kind="stable")[:size]
        return self.batch(longest, seed=seed, epoch=0)
