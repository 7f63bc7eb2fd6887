"""ViLT: one transformer over the tokens of a text and the patches of an image.

Kim et al. 2021, "ViLT: Vision-and-Language Transformer Without Convolution or Region Supervision", section 3.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, Positive
from tfcli.errors import DataError
from tfcli.models.heads import check_vocabulary
from tfcli.models.protocols import Features
from tfcli.nn.embeddings import PatchEmbed
from tfcli.nn.init import init_normal
from tfcli.nn.places import Places
from tfcli.nn.stack import Stack
from tfcli.shapes import Bool, Float, Int


class ViLT(nn.Module):
    """Text tokens and image patches, with an embedding of their modality, concatenated in pre-norm blocks.

    A tanh layer reads [CLS]; a head with a hidden layer of width 2 D chooses the answer (section 4.2). Text tokens have
    the places 0 to `context` - 1 of one axis, and patches the places after, so that a learned table has positions of
    both, as in the paper. The paper's class token of the image is left out, since no head reads it.

    Args:
        width: D, the width of the tokens.
        vocab_size: V, the size of the vocabulary.
        context: longest text in tokens.
        image_size: side of the image in pixels; other sizes are refused (`check_image_size`).
        patch_size: P, the side of a patch in pixels.
        num_classes: K, the number of answers.
        norm_eps: epsilon of all norms.
        blocks: further arguments of `Stack`: depth, heads, attn, pos, mlp_width, activation, norm, layer_scale,
            dropout, attention_dropout, drop_path.

    Raises:
        ValueError: sizes do not divide one another, or `vocab_size` is not known.
        IncompatibleError: attention and positions do not fit together.
    """

    def __init__(
        self,
        width: Count,
        *,
        vocab_size: Count | None,
        context: Count,
        image_size: Count,
        patch_size: Count,
        num_classes: Count,
        norm_eps: Positive = 1e-12,
        **blocks: Any,
    ):
        super().__init__()
        self.context, self.image_size = context, image_size
        self.embed = nn.Embedding(check_vocabulary(vocab_size), width)
        self.patch_embed = PatchEmbed(width, image_size=image_size, patch_size=patch_size)
        self.kind_embed = nn.Embedding(2, width)  # modalities: text, image
        patches = prod(self.patch_embed.grid)
        self.extent = context + patches
        self.image_places = Places.line(patches, start=context, extent=self.extent)
        self.stack = Stack(width, extent=(self.extent,), norm_eps=norm_eps, **blocks)
        self.layers = self.stack.layers
        self.pooler = nn.Linear(width, width)
        hidden = 2 * width
        self.head = nn.Sequential(
            nn.Linear(width, hidden), nn.LayerNorm(hidden, eps=norm_eps), nn.GELU(), nn.Linear(hidden, num_classes)
        )
        init_normal(self)

    @staticmethod
    def check_image_size(built: int, given: int) -> None:
        """Refuse images of another side than the model is built for: its positions number text and patches in one line.

        Raises:
            DataError: the sides differ.
        """
        if given != built:
            raise DataError(
                f"ViLT reads images of the size that it is built for, {built} px, but `data.image_size` is {given}: "
                f"leave it out, or train a model for {given} px (`tfcli rerun RUN data.image_size={given}`)."
            )

    def fuse(
        self, image: Float[Tensor, "B C Y X"], tokens: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"] | None = None
    ) -> Features:
        """Return the last layer's tokens, text before patches, and the pooler's output for the first one, [CLS].

        Args:
            image: images of the size that the model is built for.
            tokens: token ids of the text.
            valid: False for padding, which no other token sees; None where there is none.

        Raises:
            DataError: there are more tokens than the context, or the image is of another size.
        """
        length, grid = tokens.shape[1], self.patch_embed.grid_of(*image.shape[-2:])
        if length > self.context:
            raise DataError(f"a text of {length} tokens is longer than the model's context of {self.context}.")
        if grid != self.patch_embed.grid:
            self.check_image_size(self.image_size, image.shape[-1])
            raise DataError(f"the model reads square images of {self.image_size} px only.")
        words, patches = self.embed(tokens), self.patch_embed(image)
        x = torch.cat([words + self.kind_embed.weight[0], patches + self.kind_embed.weight[1]], 1)
        if valid is not None:
            valid = torch.cat([valid, valid.new_ones(patches.shape[:2])], 1)
        x = self.stack(x, self._places(length), valid=valid)
        return Features(x, self.pooler(x[:, 0]).tanh())

    def _places(self, length: int) -> Places:
        image = self.image_places
        return image.once(length, lambda: Places.line(length, extent=self.extent).then(image))

    def answer(
        self, image: Float[Tensor, "B C Y X"], tokens: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B K"]:
        """Return a score for each answer; see `fuse`."""
        return self.head(self.fuse(image, tokens, valid).pooled)

    def forward(
        self, image: Float[Tensor, "B C Y X"], tokens: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B K"]:
        return self.answer(image, tokens, valid)

    def layer_of(self, name: str) -> int:
        """Return 0 for embeddings and positions, 1 to depth for the blocks, depth + 1 for the pooler and the head."""
        return self.stack.layer_in_model(name, stem=("embed", "patch_embed", "kind_embed"))
