"""Vision Transformer (ViT): a transformer encoder over image patches.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, Natural, Positive
from tfcli.models.protocols import Features
from tfcli.nn.blocks import Activation, Norm, make_norm
from tfcli.nn.embeddings import ConvEmbed, PatchEmbed, Stem
from tfcli.nn.hybrid import HybridEmbed
from tfcli.nn.init import init_as_vit
from tfcli.nn.places import Places
from tfcli.nn.pooling import AttentionPool
from tfcli.nn.resampling import note_resized
from tfcli.nn.stack import Stack
from tfcli.shapes import Float

POOLS = ("class", "mean", "normed_mean", "attention")

StemName = Literal["patch", "overlap", "conv", "hybrid"]
STEMS: dict[str, Callable[..., Stem]] = {
    "patch": PatchEmbed,
    "overlap": partial(PatchEmbed, overlap=True),
    "conv": ConvEmbed,
    "hybrid": partial(HybridEmbed, blocks=(1,), stem_width=32),  # a size for images of 32 px and a few cores
}
"""Factories of stems by name, called as `stem(width, image_size=..., patch_size=...)`."""


def make_stem(stem: StemName | Callable[..., Stem], width: int, *, image_size: int, patch_size: int) -> Stem:
    """Build the stem of that name, or call the given factory.

    Raises:
        ValueError: there is no such stem, or the sizes do not divide.
    """
    if isinstance(stem, str):
        if stem not in STEMS:
            raise ValueError(f"`model.stem` must be one of {', '.join(STEMS)}, but is {stem!r}.")
        stem = STEMS[stem]
    return stem(width, image_size=image_size, patch_size=patch_size)


class PatchEncoder(nn.Module):
    """Base class of all kinds of ViT: special tokens and the patches of an image in a stack of blocks.

    An image of another size than `image_size` has another grid, for which learned positions are resampled.

    Args:
        width: D, the width of the tokens.
        image_size: side of the image in pixels.
        patch_size: side of a patch in pixels of the image, for every stem.
        special: names of the special tokens before the patches, and their numbers; they start at zero.
        stem: map from pixels to tokens: patch, overlap, conv, hybrid (see `STEMS`), or a factory of another one.
        blocks: further arguments of `Stack`: depth, heads, attn, pos, mlp_width, activation, mlp_bias, norm, norm_eps,
            post_norm, stem_norm, layer_scale, dropout (0.1 in the ViT paper's ImageNet-only training, 0 in
            fine-tuning), attention_dropout, drop_path.

    Raises:
        ValueError: `patch_size` does not divide `image_size`, `heads` does not divide `width`; or no such stem.
        IncompatibleError: attention and positions do not fit together.
    """

    def __init__(
        self,
        width: Count,
        *,
        image_size: Count,
        patch_size: Count,
        special: dict[str, int],
        stem: StemName | Callable[..., Stem] = "patch",
        **blocks: Any,
    ):
        super().__init__()
        self.patch_embed = make_stem(stem, width, image_size=image_size, patch_size=patch_size)
        self.special = self.undecayed = tuple(name for name, number in special.items() if number)
        for name, number in special.items():
            setattr(self, name, nn.Parameter(torch.zeros(1, number, width)) if number else None)
        grid, num_special = self.patch_embed.grid, sum(special.values())
        self.places = Places.grid(*grid, special=num_special)
        self._others: dict[tuple[int, int], Places] = {}
        self.stack = Stack(width, extent=grid, special=num_special, **blocks)
        self.layers = self.stack.layers

    def tokens(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B N D"]:
        """Return the tokens of the last block, the special tokens first.

        Raises:
            DataError: the patch size does not divide a side of the image.
        """
        x, places = self.patch_embed(image), self.places_of(*image.shape[-2:])
        first = [getattr(self, name).expand(len(x), -1, -1).to(x.dtype) for name in self.special]
        return self.stack(torch.cat([*first, x], 1), places)

    def places_of(self, rows: int, columns: int) -> Places:
        """Return the places of the tokens of an image of `rows` x `columns` pixels; equal sizes share one object."""
        grid = self.patch_embed.grid_of(rows, columns)
        if grid == self.patch_embed.grid:
            return self.places
        return self._others.setdefault(grid, Places.grid(*grid, special=len(self.places) - prod(self.patch_embed.grid)))

    def note_size(self, image_size: int) -> str | None:
        """Return a log line on how position tables are resampled for images of this side; None: they are not.

        Raises:
            DataError: the patch size does not divide it.
        """
        grid, built = self.patch_embed.grid_of(image_size, image_size), self.patch_embed.grid
        tables = any(True for _ in self.stack.positions.parameters())
        if grid == built or not tables:
            return None
        return note_resized(built, grid, getattr(self.stack.positions[0], "resample", "transformers"))

    def layer_of(self, name: str) -> int:
        """Return 0 for the stem and positions, 1 to depth for the blocks, depth + 1 for the last norm and the heads."""
        return self.stack.layer_in_model(name, stem=("patch_embed", *self.special))


class ViT(PatchEncoder):
    """ViT classifier: patches, a class token, positions, pre-norm blocks and a linear head.

    The head starts at zero, as in the paper's fine-tuning. Without a class token the last norm follows the mean of the
    patches (as in timm and MAE), or precedes the attention that pools them (as in big_vision). The tanh layer before
    the head of the ImageNet-21k checkpoints is left out.

    Args:
        width: D, the width of the tokens.
        heads: H, the number of heads.
        num_classes: K, the number of classes.
        mlp_width: hidden width of the MLPs; 4 D by default.
        pool: class (the class token), mean (the mean of the patches, then a norm), normed_mean (a norm, then the mean)
            or attention (attention of a learned query to the normed patches).
        pool_activation: activation of the MLP after attention pooling.
        registers: number of further special tokens after the class token, which the head does not read (Darcet et al.
            2024).
        norm: layer or rms.
        norm_eps: epsilon of the norms; checkpoints do not store it; 1e-6 in the paper's code.
        encoder: further arguments of `PatchEncoder`.

    Raises:
        ValueError: sizes do not divide one another, or there is no such stem or pooling.
        IncompatibleError: attention and positions do not fit together.
    """

    cls_token: nn.Parameter | None
    register_tokens: nn.Parameter | None

    def __init__(
        self,
        width: Count,
        *,
        heads: Count,
        num_classes: Count,
        mlp_width: Count | None = None,
        pool: Literal["class", "mean", "normed_mean", "attention"] = "class",
        pool_activation: Activation = "gelu",
        registers: Natural = 0,
        norm: Norm = "layer",
        norm_eps: Positive = 1e-6,
        **encoder: Any,
    ):
        if pool not in POOLS:
            raise ValueError(f"`model.pool` must be one of {', '.join(POOLS)}, but is {pool!r}.")
        shared: dict[str, Any] = {"heads": heads, "mlp_width": mlp_width, "norm": norm, "norm_eps": norm_eps}
        super().__init__(
            width,
            special={"cls_token": int(pool == "class"), "register_tokens": registers},
            final_norm=pool != "mean",
            **shared,
            **encoder,
        )
        self.pool, self.num_registers = pool, registers
        self.attention_pool = (
            AttentionPool(width, activation=pool_activation, **shared) if pool == "attention" else None
        )
        self.head_norm = make_norm(norm, width, eps=norm_eps) if pool == "mean" else nn.Identity()
        self.head = nn.Linear(width, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise linear maps as the official JAX code (`init_as_vit`), registers as normal, the head as zero."""
        init_as_vit(self)
        if self.register_tokens is not None:
            nn.init.normal_(self.register_tokens, std=0.02)
        nn.init.zeros_(self.head.weight)

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Return the tokens of the last block (class token and registers first) and the input of the head."""
        tokens = self.tokens(image)
        if self.attention_pool is not None:
            pooled = self.attention_pool(tokens[:, self.num_registers :])
        else:
            pooled = tokens[:, 0] if self.pool == "class" else tokens[:, self.num_registers :].mean(1)
        return Features(tokens, self.head_norm(pooled))

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]:
        return self.head(self.features(image).pooled)
