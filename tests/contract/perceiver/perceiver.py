"""Perceiver: a few latents read an image of many patches, then think among themselves.

Jaegle et al. 2021, "Perceiver: General Perception with Iterative Attention", section 3. Written as a user would write
it, in a folder of one's own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tfcli.bounds import Count
from tfcli.models.protocols import Features
from tfcli.nn.attention import AttentionFactory, Plan
from tfcli.nn.blocks import Block, make_mlp
from tfcli.nn.cache import Memory
from tfcli.nn.cross import CrossAttention
from tfcli.nn.embeddings import PatchEmbed
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
from tfcli.nn.stack import Stack
from tfcli.shapes import Float


class Perceiver(nn.Module):
    """Latents of width D read patches of another width once, then go through a stack.

    Args:
        width: D of the latents.
        memory_width: of the patches.
        latents: how many there are.
        depth: number of blocks after the reading.
        heads: H.
        image_size: side of the image in pixels.
        patch_size: side of a patch in pixels.
        num_classes: K.
        attn: makes an attention among the latents.
        pos: makes the position of the patches.
    """

    def __init__(
        self,
        width: Count,
        *,
        memory_width: Count,
        latents: Count,
        depth: Count,
        heads: Count,
        image_size: Count,
        patch_size: Count,
        num_classes: int,
        attn: AttentionFactory,
        pos: Callable[..., Position],
    ):
        super().__init__()
        self.embed = PatchEmbed(memory_width, image_size=image_size, patch_size=patch_size)
        self.where = pos(memory_width, heads=heads, extent=self.embed.grid, special=0)
        self.patches, self.seats = Places.grid(*self.embed.grid), Places.line(latents)
        self.start = nn.Parameter(torch.randn(1, latents, width) * 0.02)
        norm = nn.LayerNorm(memory_width)
        cross = CrossAttention(width, heads=heads, memory_width=memory_width, memory_norm=norm)
        self.read = Block(None, make_mlp(width), cross=cross, width=width)
        self.stack = Stack(width, depth=depth, heads=heads, attn=attn, pos=Position, extent=(latents,))
        self.head = nn.Linear(width, num_classes)
        self.layers, self.undecayed = depth + 1, ("start",)

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Return the latents after the last block and their mean."""
        patches = self.where.add(self.embed(image), self.patches.to(image.device))
        latents = self.start.expand(len(image), -1, -1)
        x = self.stack(self.read(latents, Plan(self.seats, memory=Memory(patches))), self.seats)
        return Features(x, x.mean(1))

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]:
        return self.head(self.features(image).pooled)

    def layer_of(self, name: str) -> int:
        """Return 0 for patches and latents, 1 for the reading, then the blocks; the head comes last."""
        part, _, rest = name.partition(".")
        if part == "stack":
            return self.stack.layer_of(rest) + 1
        return {"read": 1, "head": self.layers + 1}.get(part, 0)
