"""Decoding of image files to RGB, by one rule for all files.

1. The first frame of an animated file is used. 2. The EXIF orientation is applied. 3. 16-bit grey is scaled to 8 bits.
4. Palette, grey, CMYK and other modes are converted to RGB, with transparency over white. 5. An image whose sides
differ by more than a factor of ten is cropped at the centre to this factor. 6. With `resize`, a larger image is
reduced; a smaller image keeps its size.

A file that is unreadable, truncated, empty, not an image, or above Pillow's pixel limit raises `BadImage` with its path
and the reason.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tfcli.data.common.printable import printable
from tfcli.data.images.resize import Resize
from tfcli.errors import DataError

MAX_PIXELS = 2 * 89_478_485  # Pillow raises above this limit; above half of it, it only warns
MAX_ASPECT = 10
_ORIENTATION = 0x0112
# Errors that Pillow's readers raise for damaged files.
PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class BadImage(DataError):
    """Error for an image file that cannot be read.

    Args:
        path: the file.
        reason: short description of the problem.
    """

    def __init__(self, path: str | os.PathLike, reason: str):
        self.path, self.reason = Path(path), reason
        super().__init__(f"{printable(path)}: {reason}")

    def __reduce__(self):  # keeps both arguments when a loader process sends the error to the main process
        return BadImage, (str(self.path), self.reason)


def decode(path: str | os.PathLike, *, resize: Resize | None = None) -> np.ndarray:
    """Return the image of a file as (Y, X, 3) uint8 RGB, by the rule above.

    Args:
        path: the file.
        resize: change of size, applied only where it reduces the image and keeps its aspect ratio; None keeps the size.

    Raises:
        BadImage: the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImage(path, f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,} in all")
            turned = ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image
            pixels = np.asarray(_middle(to_rgb(turned)))
            return resize(pixels) if resize is not None and resize.reduces(*pixels.shape[:2]) else pixels
    except BadImage:
        raise
    except PILLOW_ERRORS as error:
        raise BadImage(path, reason(path, error)) from None


def size_of(path: str | os.PathLike, *, likely: tuple[int, ...] | None = None) -> tuple[int, int]:
    """Return the height and width of an image after its EXIF orientation.

    Args:
        path: the file.
        likely: size that is returned at once where the file's header has it; for the orientation of a PNG, Pillow
            decodes the whole file.

    Raises:
        BadImage: the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            size = image.height, image.width
            return size[::-1] if size != likely and image.getexif().get(_ORIENTATION, 1) > 4 else size
    except PILLOW_ERRORS as error:
        raise BadImage(path, reason(path, error)) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, with transparency over white and 16-bit grey scaled to 8 bits."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.convert("RGB")
    if image.mode.startswith("I"):  # 16-bit grey, or 32-bit integers that hold it
        values = np.clip(np.asarray(image).astype(np.float64), 0, 65535)
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        values = values * 255 if values.max(initial=0.0) <= 1 else values
        return Image.fromarray(np.round(np.clip(values, 0, 255)).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _middle(image: Image.Image) -> Image.Image:
    short, (width, height) = min(image.size), image.size
    x, y = (min(length, MAX_ASPECT * short) for length in (width, height))
    if (x, y) == (width, height):
        return image
    left, top = (width - x) // 2, (height - y) // 2
    return image.crop((left, top, left + x, top + y))


def reason(path: str | os.PathLike, error: Exception) -> str:
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as unreadable:
        return unreadable.strerror or str(unreadable)
    if not start:
        return "the file is empty (0 bytes)"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not an image file (it starts with {start!r})"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"decompression bomb: {error}"
    return str(error) or type(error).__name__
