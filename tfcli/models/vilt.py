"""ViLT: the words of a text and the patches of an image in one transformer.

Kim et al. 2021, "ViLT: Vision-and-Language Transformer Without Convolution or Region Supervision", section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, Positive, Rate
from tfcli.errors import DataError
from tfcli.models.heads import check_vocabulary
from tfcli.models.protocols import Features
from tfcli.nn.attention import AttentionFactory
from tfcli.nn.embeddings import PatchEmbed
from tfcli.nn.init import init_normal
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
from tfcli.nn.stack import Stack
from tfcli.shapes import Bool, Float, Int


class ViLT(nn.Module):
    """Embedded tokens and patches, each with a vector of their kind, side by side through pre-norm blocks.

    A tanh layer reads [CLS]; answers are chosen by a hidden layer twice as wide (section 4.2). Words stand at 0 to
    `context` - 1 of one line and patches behind, so that a learned table holds positions of both, as in the paper. The
    image has no class token of its own, which the paper adds and nothing reads.

    Args:
        width: D.
        vocab_size: V.
        depth: number of blocks.
        heads: H.
        context: the longest text in tokens.
        image_size: side of the image in pixels; there is no other.
        patch_size: P.
        num_classes: K, of answers.
        attn: makes an attention (`conf/attn`).
        pos: makes a position (`conf/pos`).
        norm_eps: epsilon of all norms.
        dropout: on the embedded tokens and in the blocks.
        blocks: what else a `Stack` takes: mlp_width, activation, norm, layer_scale, attention_dropout, drop_path.

    Raises:
        ValueError: sizes do not divide one another, or `vocab_size` is not known.
        IncompatibleError: attention and positions do not fit together.
    """

    def __init__(
        self,
        width: Count,
        *,
        vocab_size: Count | None,
        depth: Count,
        heads: Count,
        context: Count,
        image_size: Count,
        patch_size: Count,
        num_classes: Count,
        attn: AttentionFactory,
        pos: Callable[..., Position],
        norm_eps: Positive = 1e-12,
        dropout: Rate = 0.0,
        **blocks: Any,
    ):
        super().__init__()
        self.context = context
        self.embed = nn.Embedding(check_vocabulary(vocab_size), width)
        self.patch_embed = PatchEmbed(width, image_size=image_size, patch_size=patch_size)
        self.kind_embed = nn.Embedding(2, width)  # of words, of patches
        patches = prod(self.patch_embed.grid)
        self.extent = context + patches
        self.seen = Places.line(patches, start=context, extent=self.extent)
        self.stack = Stack(
            width,
            depth=depth,
            heads=heads,
            attn=attn,
            pos=pos,
            extent=(self.extent,),
            norm_eps=norm_eps,
            dropout=dropout,
            **blocks,
        )
        self.pooler = nn.Linear(width, width)
        hidden = 2 * width
        self.head = nn.Sequential(
            nn.Linear(width, hidden), nn.LayerNorm(hidden, eps=norm_eps), nn.GELU(), nn.Linear(hidden, num_classes)
        )
        init_normal(self)

    def fuse(
        self, image: Float[Tensor, "B C Y X"], tokens: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"] | None = None
    ) -> Features:
        """Return the last layer's tokens, words before patches, and the pooler's tanh of the first of them, [CLS].

        Args:
            image: of the size that the model is built for.
            tokens: ids.
            valid: False for padding, which no other token sees; None where there is none.

        Raises:
            DataError: there are more tokens than the context, or the image is of another size.
        """
        length, grid = tokens.shape[1], self.patch_embed.grid_of(*image.shape[-2:])
        if length > self.context:
            raise DataError(f"a text of {length} tokens is longer than the model's context of {self.context}.")
        if grid != self.patch_embed.grid:
            raise DataError(f"the model is built for {self.patch_embed.grid} patches, but the image has {grid}.")
        words, patches = self.embed(tokens), self.patch_embed(image)
        x = torch.cat([words + self.kind_embed.weight[0], patches + self.kind_embed.weight[1]], 1)
        if valid is not None:
            valid = torch.cat([valid, valid.new_ones(patches.shape[:2])], 1)
        x = self.stack(x, self._places(length), valid=valid)
        return Features(x, self.pooler(x[:, 0]).tanh())

    def _places(self, length: int) -> Places:
        return self.seen.once(length, lambda: Places.line(length, extent=self.extent).then(self.seen))

    def answer(
        self, image: Float[Tensor, "B C Y X"], tokens: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B K"]:
        """Return a score for each answer; see `fuse`."""
        return self.head(self.fuse(image, tokens, valid).pooled)

    def forward(
        self, image: Float[Tensor, "B C Y X"], tokens: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B K"]:
        return self.answer(image, tokens, valid)

    @property
    def layers(self) -> int:
        return len(self.stack.blocks)

    def layer_of(self, name: str) -> int:
        """0 for embeddings and positions, 1 to depth for the blocks, depth + 1 for the pooler and the head."""
        if name.startswith("stack.blocks."):
            return int(name.split(".")[2]) + 1
        first = ("embed", "patch_embed", "kind_embed", "stack.positions")
        return 0 if name.startswith(first) else self.layers + 1
