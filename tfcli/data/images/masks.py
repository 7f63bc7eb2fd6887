"""Segmentation masks: image files whose values are the classes of the pixels."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from PIL import Image

from tfcli.data.images.decode import PILLOW_ERRORS, BadImage, reason
from tfcli.errors import ConfigError

VOID = 255
"""Class of pixels that losses and metrics ignore."""


class MaskReader:
    """Reader of mask files, which maps pixel values to class indices.

    Args:
        masks: name of the class of each pixel value; null means void.

    Attributes:
        classes: names of the classes in the order in which `masks` first has them.

    Raises:
        ConfigError: a value is outside 0..255, a name is no text, or there is no class.
    """

    def __init__(self, masks: Mapping[int, str | None]):
        names = [name for name in masks.values() if name is not None] if isinstance(masks, Mapping) else []
        if not names or not all(type(value) is int and 0 <= value <= 255 for value in masks):
            raise ConfigError(f"`masks` must map pixel values 0..255 to names of classes, but is {masks}.")
        for value, name in masks.items():
            if not isinstance(name, str | None):
                raise ConfigError(
                    f"`masks`: the name of the class {value} must be a text in quotes, but is {name!r}. YAML reads no, "
                    f'yes, on and off without quotes as false and true: write {{{value}: "no"}}.'
                )
        self.classes = list(dict.fromkeys(names))
        self.table = np.zeros(256, dtype=np.uint8)
        self.known = np.zeros(256, dtype=bool)
        for value, name in masks.items():
            self.table[value] = VOID if name is None else self.classes.index(name)
            self.known[value] = True

    def __call__(self, path: str | os.PathLike) -> np.ndarray:
        """Return the class of each pixel, (Y, X) uint8; 255 is void.

        Raises:
            BadImage: the file cannot be read, is a colour image, or has a value without a class.
        """
        try:
            with Image.open(path) as image:
                if image.mode not in ("L", "P", "1"):
                    raise BadImage(path, f"a mask has one value for each pixel, but this file's mode is {image.mode}")
                values = np.asarray(image).astype(np.uint8)
        except BadImage:
            raise
        except PILLOW_ERRORS as error:
            raise BadImage(path, reason(path, error)) from None
        known = self.known.take(values)  # twice as fast as an index
        if not known.all():
            raise BadImage(path, f"the value {values[~known].min()} of the mask stands for no class")
        return self.table.take(values)
