"""The right view of a stereo pair: each object moves left by its disparity, which is larger for nearer objects.

Rows are epipolar lines. A pixel at column x of the left view with disparity d is at column x - d of the right view,
unless it is occluded there, outside the image or behind a nearer object.
"""

from __future__ import annotations

import numpy as np

from tfcli.data.common.counter_rng import below
from tfcli.data.synthetic.objects import DEPTH, MOST_OBJECTS, X
from tfcli.data.synthetic.rendering import look_up

MOST_DISPARITY = 2 * MOST_OBJECTS + 1
DEPTH_TIMES_DISPARITY = 2.0  # so that depths are in (0, 1]


def object_disparities(objects: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return the disparity of each object, (B, k) in pixels: two per step of depth, plus a random 0 or 1.

    Args:
        objects: (B, k, 7).
        words: (B, k) random words.
    """
    return 2 * objects[:, :, DEPTH] + below(words, 2)


def moved(objects: np.ndarray, disparities: np.ndarray) -> np.ndarray:
    """Return the objects (B, k, 7) at their positions in the right view."""
    right = objects.copy()
    right[:, :, X] -= disparities
    return right


def disparity_map(ids: np.ndarray, disparities: np.ndarray) -> np.ndarray:
    """Return the disparity of each pixel of the left view, (B, Y, X) int64; 0 on the background."""
    return look_up(np.pad(disparities, ((0, 0), (1, 0))), ids)


def occlusions(ids: np.ndarray, right_ids: np.ndarray, disparity: np.ndarray) -> np.ndarray:
    """Return which pixels of the left view are occluded in the right view, (B, Y, X) bool."""
    match = np.arange(ids.shape[2]) - disparity
    seen = np.take_along_axis(right_ids, match.clip(0), axis=2)
    return (match < 0) | (seen != ids)


def depth_map(disparity: np.ndarray) -> np.ndarray:
    """Return the depth of each pixel, (B, Y, X) float32: 2 / disparity, and 0 on the background.

    The background is infinitely far; 0 means that there is no finite depth, as in KITTI's files.
    """
    return np.divide(DEPTH_TIMES_DISPARITY, disparity, where=disparity > 0, out=np.zeros(disparity.shape)).astype(
        np.float32
    )
