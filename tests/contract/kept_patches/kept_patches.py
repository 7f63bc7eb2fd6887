"""A ViT that computes with some of an image's patches only: those whose embedding is longest.

Each sample keeps other patches, which take their places along. Rao et al. 2021, "DynamicViT", learns which to keep.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from tfcli.bounds import Count
from tfcli.models.protocols import Features
from tfcli.nn.attention import AttentionFactory
from tfcli.nn.embeddings import PatchEmbed
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
from tfcli.nn.stack import Stack
from tfcli.shapes import Float, Int


class KeptPatches(nn.Module):
    """The K patches of largest norm go through a stack; their mean is read.

    Args:
        width: D.
        depth: number of blocks.
        heads: H.
        keep: K, number of patches that are kept.
        image_size: side of the image in pixels.
        patch_size: side of a patch in pixels.
        num_classes: number of classes.
        attn: makes an attention.
        pos: makes a position.

    Raises:
        ValueError: an image has fewer patches than `keep`.
    """

    def __init__(
        self,
        width: Count,
        *,
        depth: Count,
        heads: Count,
        keep: Count,
        image_size: Count,
        patch_size: Count,
        num_classes: int,
        attn: AttentionFactory,
        pos: Callable[..., Position],
    ):
        super().__init__()
        self.patch_embed = PatchEmbed(width, image_size=image_size, patch_size=patch_size)
        self.places, self.keep = Places.grid(*self.patch_embed.grid), keep
        if keep > len(self.places):
            raise ValueError(f"`model.keep` must be at most {len(self.places)}, the number of patches, but is {keep}.")
        self.stack = Stack(width, depth=depth, heads=heads, attn=attn, pos=pos, extent=self.patch_embed.grid)
        self.head = nn.Linear(width, num_classes)

    def kept(self, patches: Float[Tensor, "B N D"]) -> Int[Tensor, "B K"]:
        """Return which patches each sample keeps, the longest first."""
        return patches.norm(dim=-1).topk(self.keep).indices

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Return the tokens that were kept, after the last block, and their mean."""
        patches = self.patch_embed(image)
        index, x = self.kept(patches), self.stack.embed(patches, self.places)
        places = self.places.to(x.device).take(index)
        x = self.stack.run(x.take_along_dim(index[..., None], 1), places)
        return Features(x, x.mean(1))

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B classes"]:
        return self.head(self.features(image).pooled)
