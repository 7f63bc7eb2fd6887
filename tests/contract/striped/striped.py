"""An image encoder whose layers alternate patterns, two of them its own; written as a user would write it.

Rows and columns alternate in Ho et al. 2019, "Axial Attention in Multidimensional Transformers", section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from tfcli.bounds import Count
from tfcli.models.protocols import Features
from tfcli.nn.attention import AttentionFactory
from tfcli.nn.embeddings import PatchEmbed
from tfcli.nn.patterns import Pattern
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
from tfcli.nn.stack import Stack
from tfcli.shapes import Float


@dataclass(frozen=True)
class Row(Pattern):
    """A token sees its own row of the grid."""

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        return q[..., 0] == k[..., 0]


@dataclass(frozen=True)
class Column(Pattern):
    """A token sees its own column of the grid."""

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        return q[..., 1] == k[..., 1]


class Striped(nn.Module):
    """Patches through blocks that take the patterns of `attn` in turn; the mean of the tokens is read.

    Args:
        width: D.
        depth: number of blocks.
        heads: H.
        image_size: side of the image in pixels.
        patch_size: side of a patch in pixels.
        num_classes: K.
        attn: makes the attention of each layer.
        pos: makes a position.
    """

    def __init__(
        self,
        width: Count,
        *,
        depth: Count,
        heads: Count,
        image_size: Count,
        patch_size: Count,
        num_classes: int,
        attn: AttentionFactory,
        pos: Callable[..., Position],
    ):
        super().__init__()
        self.patch_embed = PatchEmbed(width, image_size=image_size, patch_size=patch_size)
        self.places = Places.grid(*self.patch_embed.grid)
        self.stack = Stack(width, depth=depth, heads=heads, attn=attn, pos=pos, extent=self.patch_embed.grid)
        self.head = nn.Linear(width, num_classes)

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Return the tokens after the last block and their mean."""
        x = self.stack(self.patch_embed(image), self.places)
        return Features(x, x.mean(1))

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]:
        return self.head(self.features(image).pooled)
