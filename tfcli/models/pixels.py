"""No encoder at all: the pixels themselves, as the baseline that features must beat."""

from __future__ import annotations

from torch import Tensor, nn

from tfcli.bounds import Count
from tfcli.models.protocols import Features
from tfcli.shapes import Float


class Pixels(nn.Module):
    """An image as the vector of its normalised pixels. It has no weights.

    Args:
        image_size: side of the image in pixels.
    """

    def __init__(self, image_size: Count):
        super().__init__()
        self.image_size = image_size

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """A token a pixel, row by row, and all of them as one vector."""
        return Features(image.flatten(2).mT, image.flatten(1))
