"""Tables for rendering scenes: silhouettes of shapes, their bounding boxes, and the noise of textures."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tfcli.data.common.counter_rng import below, hash64

RADII = (0.115, 0.16, 0.21)  # of small, medium and large, as shares of the side of the image
NOISE_SIDE = 128


@lru_cache
def radii(side: int) -> np.ndarray:
    """Return the radius of each size, in pixels, (3,)."""
    return np.array([max(2, round(r * side)) for r in RADII])


@lru_cache
def atlas(side: int) -> np.ndarray:
    """Return silhouettes [shape, size, W, W], centred, with W = 2 * largest radius + 1."""
    most = int(radii(side).max())
    dy, dx = np.mgrid[-most : most + 1, -most : most + 1]
    far, square = np.hypot(dx, dy), np.maximum(abs(dx), abs(dy))
    sizes = []
    for r in radii(side):
        bar = max(1, round(r / 3))
        sizes.append(
            [
                far <= r + 0.25,
                square <= round(0.85 * r),
                (abs(dx) <= (dy + r) / 2) & (abs(dy) <= r),
                abs(dx) + abs(dy) <= r,
                ((abs(dx) < bar) | (abs(dy) < bar)) & (square <= r),
                (far <= r + 0.25) & (far > r / 2),
            ]
        )
    return np.array(sizes).transpose(1, 0, 2, 3)


@lru_cache
def extents(side: int) -> np.ndarray:
    """Return silhouettes' boxes around their centres, [shape, size, 4]: left, top, right, bottom, ends excluded."""
    sprites, most = atlas(side), int(radii(side).max())
    boxes = np.zeros((*sprites.shape[:2], 4), dtype=np.int64)
    for place in np.ndindex(*sprites.shape[:2]):
        rows, columns = np.nonzero(sprites[place])
        boxes[place] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes - most


@lru_cache
def noise() -> np.ndarray:
    """Return gains 0.66..1 as fractions of 256, a table of 128 x 128, flattened."""
    return (169 + below(hash64("shapes noise", np.arange(NOISE_SIDE**2)), 88)).astype(np.uint16)
