"""Arrays of pixels as tensors; random shifts and horizontal flips of whole batches, with one seed per sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tfcli.data.common.counter_rng import below, hash64, uniform


def one_batch(images: np.ndarray) -> Tensor:
    """Convert an array (B, Y, X, 3) to a contiguous tensor (B, 3, Y, X)."""
    images = np.ascontiguousarray(images)
    return torch.from_numpy(images if images.flags.writeable else images.copy()).permute(0, 3, 1, 2).contiguous()


def pixels_first(image: np.ndarray) -> Tensor:
    """Return an array (..., Y, X, 3) as a view (..., 3, Y, X): channels last in memory, which is resized fastest."""
    image = np.ascontiguousarray(image)
    return torch.from_numpy(image if image.flags.writeable else image.copy()).movedim(-1, -3)


def offsets(seeds: Any, padding: int) -> tuple[Any, Any]:
    """Return the first row and the first column of each random crop of a padded image."""
    y, x = (below(hash64(seeds, axis), 2 * padding + 1) for axis in ("y", "x"))
    return y, x


def mirrored(seeds: Any, probability: float) -> Any:
    """Return whether each image is flipped, from its seed."""
    return uniform(hash64(seeds, "flip")) < probability


def shift(images: np.ndarray, seeds: np.ndarray, *, padding: int) -> np.ndarray:
    """Return random crops of the original size from zero-padded images (B, Y, X, 3), with seeds (B,)."""
    count, rows, columns, _ = images.shape
    padded = np.zeros((count, rows + 2 * padding, columns + 2 * padding, 3), dtype=images.dtype)
    padded[:, padding:-padding, padding:-padding] = images
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns, 3), axis=(1, 2, 3))[:, :, :, 0]
    y, x = offsets(seeds, padding)
    return windows[np.arange(count), y, x]


def mirror(images: Tensor, seeds: np.ndarray, probability: float) -> Tensor:
    """Return images (B, 3, Y, X), of which some are flipped horizontally, chosen by seeds (B,)."""
    if probability <= 0:
        return images
    chosen = torch.from_numpy(mirrored(seeds, probability))
    result = images.clone()
    result[chosen] = images[chosen].flip(3)
    return result
