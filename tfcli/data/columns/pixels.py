"""Columns of images of one size, which are held or made. Imports no torch before there is an array to hold."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Pixels(Protocol):
    """Images of one size: `take` gathers a batch of them, `size` is (Y, X)."""

    size: tuple[int, int]

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(B, Y, X, 3) uint8."""
        ...


class ArrayPixels:
    """Images of one size, held in memory. Grey ones are stored once and repeated to three channels on the way out.

    The array lives in a torch tensor, which loader processes share instead of copying.

    Args:
        array: (N, Y, X) or (N, Y, X, 3) uint8.
    """

    def __init__(self, array: np.ndarray):
        if array.dtype != np.uint8 or array.ndim not in (3, 4):
            raise ValueError(f"`array` must be uint8 (N, Y, X) or (N, Y, X, 3), but is {array.dtype} {array.shape}.")
        import torch  # here: `tfcli data status` reads this file and does without

        self.tensor = torch.from_numpy(np.ascontiguousarray(array))
        self.size = (int(array.shape[1]), int(array.shape[2]))

    def __len__(self) -> int:
        return len(self.tensor)

    def take(self, rows: np.ndarray) -> np.ndarray:
        images = self.tensor.numpy()[rows]
        return np.repeat(images[..., None], 3, axis=-1) if images.ndim == 3 else images
