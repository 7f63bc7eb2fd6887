"""Files of stereo disparities and occlusion masks, in the formats of KITTI, Middlebury and Scene Flow.

The disparity of a pixel of the left image is the number of pixels by which the same point lies further left in the
right image; -1 means unknown.
"""

from __future__ import annotations

import os
import re

import numpy as np
from PIL import Image

from tfcli.data.images.decode import PILLOW_ERRORS, BadImage, reason

UNKNOWN = -1.0
_HEADER = re.compile(rb"(P[fF])\s+(\d+)\s+(\d+)\s+(-?[\d.]+(?:[eE][-+]?\d+)?)\s")
_OCCLUDED = 128  # value in Middlebury's masks; 255 is visible in both images, 0 is unknown


def read_disparity(path: str | os.PathLike) -> np.ndarray:
    """Return the disparities (Y, X) float32 of a file of KITTI (.png), or of Middlebury and Scene Flow (.pfm).

    Raises:
        BadImage: the file cannot be read, or is in another format.
    """
    return _kitti(path) if os.fspath(path).lower().endswith(".png") else _portable(path)


def _kitti(path: str | os.PathLike) -> np.ndarray:
    """Read a 16-bit image of 256 times the disparity, with 0 for unknown (KITTI's development kit)."""
    try:
        with Image.open(path) as image:
            if not image.mode.startswith("I"):
                raise BadImage(path, f"disparities have 16 bits, but this file's mode is {image.mode}")
            values = np.asarray(image).astype(np.float32)
    except BadImage:
        raise
    except PILLOW_ERRORS as error:
        raise BadImage(path, reason(path, error)) from None
    return np.where(values > 0, values / 256, np.float32(UNKNOWN))


def _portable(path: str | os.PathLike) -> np.ndarray:
    """Read a portable float map of disparities, with infinity for unknown."""
    values = np.abs(read_pfm(path))  # disparities of right views are negative in Scene Flow
    return np.where(np.isfinite(values), values, np.float32(UNKNOWN))


def read_pfm(path: str | os.PathLike) -> np.ndarray:
    """Return the values of a portable float map, (Y, X) or (Y, X, 3) float32, with the top row first.

    Raises:
        BadImage: the file has another format, or is truncated.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise BadImage(path, error.strerror or str(error)) from None
    header = _HEADER.match(content)
    if header is None:
        raise BadImage(path, f"not a portable float map (it starts with {content[:16]!r})")
    channels = 3 if header[1] == b"PF" else 1
    width, height, order = int(header[2]), int(header[3]), "<" if float(header[4]) < 0 else ">"
    wanted, found = 4 * width * height * channels, len(content) - header.end()
    if found < wanted or not wanted:
        raise BadImage(path, f"{width} x {height} values take {wanted:,} bytes, but the file has {found:,}")
    values = np.frombuffer(content, f"{order}f4", width * height * channels, header.end())
    shape = (height, width) if channels == 1 else (height, width, 3)
    return np.ascontiguousarray(values.reshape(shape)[::-1], dtype=np.float32)


def read_occluded(path: str | os.PathLike) -> np.ndarray:
    """Return a Middlebury mask (Y, X) bool, true at pixels of the left image that are occluded in the right image.

    Raises:
        BadImage: the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L")) == _OCCLUDED
    except PILLOW_ERRORS as error:
        raise BadImage(path, reason(path, error)) from None
