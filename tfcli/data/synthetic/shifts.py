"""Distribution shifts of synthetic images, for measuring the robustness of a model.


outline       only the outlines of shapes
texture       stripes in place of noise
background    a ground of a dark colour in place of a grey one
noise         noise on each pixel and channel
blur          each pixel the mean of its surroundings of 5 x 5, the inner ones counting more
scale         objects of 0.7 times their size
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from tfcli.data.common.counter_rng import finalise
from tfcli.data.synthetic.sprites import NOISE_SIDE

Shift = Literal["none", "outline", "texture", "background", "noise", "blur", "scale"]
SHRUNK = 0.7
_STRIPE = 2  # width of a stripe, in pixels
_NOISE = 0.25  # factor of noise in -255..255, which gives a standard deviation of 26


def outlines(ids: np.ndarray) -> np.ndarray:
    """Return maps (B, Y, X) of object numbers in which the inside of each object is background."""
    padded = np.pad(ids, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = (padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
    inside = np.logical_and.reduce([ids == side for side in around])
    return np.where(inside, np.uint8(0), ids)


@lru_cache
def stripes() -> np.ndarray:
    """Return gains of slanting stripes as fractions of 256, a table like that of `sprites.noise`."""
    place = np.arange(NOISE_SIDE)
    dark = (place[:, None] + place) // _STRIPE % 2
    return np.where(dark, 150, 256).astype(np.uint16).ravel()


def noisy(picture: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Add noise to images: the sum of two uniform random numbers for each value.

    Args:
        picture: (B, Y, X, 3) uint8.
        words: (B,) a random word of each image.
    """
    count = np.arange(picture[0].size, dtype=np.uint64).reshape(picture.shape[1:])
    drawn = finalise(words[:, None, None, None] + count)
    noise = ((drawn & np.uint64(255)) + ((drawn >> np.uint64(8)) & np.uint64(255))).astype(np.float32) - 255
    return np.clip(np.round(picture + _NOISE * noise), 0, 255).astype(np.uint8)


def blurred(picture: np.ndarray) -> np.ndarray:
    """Return pictures (B, Y, X, 3) uint8, each pixel averaged with its neighbours, twice over 3 x 3."""
    for _ in range(2):
        for axis in (1, 2):
            width = [(1, 1) if a == axis else (0, 0) for a in range(4)]
            padded = np.moveaxis(np.pad(picture.astype(np.float32), width, mode="edge"), axis, 0)
            picture = np.moveaxis((padded[:-2] + padded[1:-1] + padded[2:]) / 3, 0, axis)
    return np.round(picture).astype(np.uint8)
