"""Patch embeddings: stems that map the pixels of an image to tokens."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from tfcli.errors import DataError
from tfcli.shapes import Float


class Stem(nn.Module):
    """Base class of stems, which map an image to a grid of tokens.

    Attributes:
        grid: rows and columns of tokens for an image of the size that the stem is built for.
        patch_size: side of a token in pixels.
    """

    grid: tuple[int, int]
    patch_size: int

    def grid_of(self, rows: int, columns: int) -> tuple[int, int]:
        """Return the rows and columns of tokens for an image of `rows` x `columns` pixels.

        Raises:
            DataError: `patch_size` does not divide a side of the image.
        """
        if rows % self.patch_size or columns % self.patch_size:
            raise DataError(
                f"an image of {rows} x {columns} pixels cannot be cut into patches of {self.patch_size} pixels: "
                f"`data.image_size` must be a multiple of {self.patch_size}."
            )
        return rows // self.patch_size, columns // self.patch_size


class PatchEmbed(Stem):
    """Linear embedding of square patches (Dosovitskiy et al. 2021, equation 1).

    The linear map is a convolution with stride P; its weight is (D, C, P, P), or (D, C, 2P-1, 2P-1) where patches
    overlap: then each also covers P - 1 pixels around it, with zeros beyond the border (Wang et al. 2022, PVT v2).

    Args:
        width: D of the tokens.
        image_size: side of the image in pixels.
        patch_size: P, the side of a patch in pixels.
        channels: C, the number of channels of the image.
        bias: whether the map has a bias; it needs none where a norm follows.
        overlap: whether patches overlap.

    Raises:
        ValueError: `patch_size` does not divide `image_size`.
    """

    def __init__(
        self,
        width: int,
        *,
        image_size: int,
        patch_size: int,
        channels: int = 3,
        bias: bool = True,
        overlap: bool = False,
    ):
        super().__init__()
        self.grid, self.patch_size = grid_of(image_size, patch_size), patch_size
        kernel, padding = (2 * patch_size - 1, patch_size - 1) if overlap else (patch_size, 0)
        self.proj = nn.Conv2d(channels, width, kernel, patch_size, padding=padding, bias=bias)

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B N D"]:
        return self.proj(image).flatten(2).mT


class ConvEmbed(Stem):
    """A stem of 3x3 convolutions with the grid of `PatchEmbed` (Xiao et al. 2021, "Early Convolutions").

    Each convolution has stride 2 and is followed by batch norm and ReLU, until one cell is left for each patch; the
    width doubles from layer to layer and ends at D. The paper's last 1x1 convolution is left out, since a norm and the
    blocks' own linear maps follow.

    Args:
        width: D of the tokens.
        image_size: side of the image in pixels.
        patch_size: P, the total stride: a power of two.
        channels: C, the number of channels of the image.

    Raises:
        ValueError: `patch_size` is not a power of two, or does not divide `image_size`, or D cannot be halved so often.
    """

    def __init__(self, width: int, *, image_size: int, patch_size: int, channels: int = 3):
        super().__init__()
        layers = patch_size.bit_length() - 1
        if patch_size != 2**layers or layers < 1:
            raise ValueError(f"`patch_size` must be a power of two for a stem of convolutions, but is {patch_size}.")
        self.grid, self.patch_size = grid_of(image_size, patch_size), patch_size
        if width % 2 ** (layers - 1):
            raise ValueError(
                f"`width` must be a multiple of {2 ** (layers - 1)} for {layers} convolutions, but is {width}."
            )
        widths = [channels, *(width // 2**layer for layer in reversed(range(layers)))]
        self.layers = nn.Sequential()
        for before, after in pairwise(widths):
            self.layers.append(nn.Conv2d(before, after, 3, 2, padding=1, bias=False))
            self.layers.extend([nn.BatchNorm2d(after), nn.ReLU()])

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B N D"]:
        return self.layers(image).flatten(2).mT


def grid_of(image_size: int, patch_size: int) -> tuple[int, int]:
    """Return the rows and columns of patches of a square image.

    Raises:
        ValueError: `patch_size` does not divide `image_size`.
    """
    if image_size % patch_size:
        raise ValueError(
            f"`model.patch_size` must divide `data.image_size`, but is {patch_size} for an image of {image_size}."
        )
    return image_size // patch_size, image_size // patch_size
