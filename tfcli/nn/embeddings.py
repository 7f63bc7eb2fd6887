"""From pixels to tokens."""

from __future__ import annotations

from torch import Tensor, nn

from tfcli.shapes import Float


class PatchEmbed(nn.Module):
    """An image cut into square patches, each mapped linearly to a token (Dosovitskiy et al. 2021, equation 1).

    The linear map is a convolution with stride P; its weight is (D, C, P, P).

    Args:
        width: D of the tokens.
        image_size: side of the image in pixels.
        patch_size: P.
        channels: C.

    Raises:
        ValueError: `patch_size` does not divide `image_size`.
    """

    def __init__(self, width: int, *, image_size: int, patch_size: int, channels: int = 3):
        super().__init__()
        if image_size % patch_size:
            raise ValueError(
                f"`patch_size` must divide `image_size`, but is {patch_size} for an image of {image_size}."
            )
        self.grid = (image_size // patch_size, image_size // patch_size)
        self.proj = nn.Conv2d(channels, width, patch_size, patch_size)

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B N D"]:
        return self.proj(image).flatten(2).mT
