"""Columns of images of one size, held in memory or generated. Imports torch only when an array is stored."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Pixels(Protocol):
    """Protocol of images of one size: `take` returns a batch of them, `size` is (Y, X)."""

    size: tuple[int, int]

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return images (B, Y, X, 3) uint8."""
        ...


class ArrayPixels:
    """Images of one size in memory; grey images are stored with one channel and returned with three.

    The pixels are a torch tensor, which loader processes share instead of copying.

    Args:
        array: (N, Y, X) or (N, Y, X, 3) uint8.

    Raises:
        ValueError: the array has another type or shape.
    """

    def __init__(self, array: np.ndarray):
        if array.dtype != np.uint8 or array.ndim not in (3, 4):
            raise ValueError(f"`array` must be uint8 (N, Y, X) or (N, Y, X, 3), but is {array.dtype} {array.shape}.")
        import torch  # imported here because `tfcli data status` imports this module and needs no torch

        self.tensor = torch.from_numpy(np.ascontiguousarray(array))
        self.size = (int(array.shape[1]), int(array.shape[2]))

    def __len__(self) -> int:
        return len(self.tensor)

    def take(self, rows: np.ndarray) -> np.ndarray:
        images = self.tensor.numpy()[rows]
        return np.repeat(images[..., None], 3, axis=-1) if images.ndim == 3 else images
