"""The pixels of an image as its features: a baseline for encoders."""

from __future__ import annotations

from torch import Tensor, nn

from tfcli.bounds import Count
from tfcli.models.protocols import Features
from tfcli.shapes import Float


class Pixels(nn.Module):
    """An encoder without weights, whose output is the vector of the normalised pixels.

    Args:
        image_size: side of the image in pixels.
    """

    def __init__(self, image_size: Count):
        super().__init__()
        self.image_size = image_size

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Return the pixels as tokens, row by row, and all of them as one vector."""
        return Features(image.flatten(2).mT, image.flatten(1))
