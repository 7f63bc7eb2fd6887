"""Vision Transformer: an image is a sentence of patches.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, Natural, Positive
from tfcli.models.protocols import Features
from tfcli.nn.attention import AttentionFactory
from tfcli.nn.blocks import Activation, Norm, make_norm
from tfcli.nn.embeddings import Stem
from tfcli.nn.init import init_as_vit
from tfcli.nn.places import Places
from tfcli.nn.pooling import AttentionPool
from tfcli.nn.positions import Position
from tfcli.nn.resampling import note_resized
from tfcli.nn.stack import Stack
from tfcli.nn.stems import StemName, make_stem
from tfcli.shapes import Float

POOLS = ("class", "mean", "normed_mean", "attention")


class PatchEncoder(nn.Module):
    """Special tokens and the patches of an image through a stack of blocks: what all kinds of ViT share.

    An image of another size than `image_size` has a grid of its own, for which learned positions are resampled.

    Args:
        width: D.
        depth: number of blocks.
        heads: H.
        image_size: side of the image in pixels.
        patch_size: side of a patch in pixels of the image, whatever the stem.
        attn: makes an attention (`conf/attn`).
        pos: makes a position (`conf/pos`).
        special: names of the special tokens before the patches, and how many there are of each; they start at zero.
        stem: how patches become tokens: patch, overlap, conv, hybrid (see `nn.stems`), or what makes another.
        blocks: what else a `Stack` takes: mlp_width, activation, mlp_bias, norm, norm_eps, post_norm, stem_norm,
            layer_scale, dropout (0.1 in the ViT paper's ImageNet-only training, 0 in fine-tuning), attention_dropout,
            drop_path.

    Raises:
        ValueError: `patch_size` does not divide `image_size`, `heads` does not divide `width`; or no such stem.
        IncompatibleError: attention and positions do not fit together.
    """

    def __init__(
        self,
        width: Count,
        *,
        depth: Count,
        heads: Count,
        image_size: Count,
        patch_size: Count,
        attn: AttentionFactory,
        pos: Callable[..., Position],
        special: dict[str, int],
        stem: StemName | Callable[..., Stem] = "patch",
        **blocks: Any,
    ):
        super().__init__()
        self.patch_embed = make_stem(stem, width, image_size=image_size, patch_size=patch_size)
        self.special = self.undecayed = tuple(name for name, number in special.items() if number)
        for name, number in special.items():
            setattr(self, name, nn.Parameter(torch.zeros(1, number, width)) if number else None)
        own = sum(special.values())
        self.places = Places.grid(*self.patch_embed.grid, special=own)
        self._others: dict[tuple[int, int], Places] = {}
        self.stack = Stack(
            width,
            depth=depth,
            heads=heads,
            attn=attn,
            pos=pos,
            extent=self.patch_embed.grid,
            special=own,
            **blocks,
        )

    def tokens(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B N D"]:
        """Return the tokens of the last block, special ones first.

        Raises:
            DataError: the patches' side does not divide that of the image.
        """
        x, places = self.patch_embed(image), self.places_of(*image.shape[-2:])
        first = [getattr(self, name).expand(len(x), -1, -1).to(x.dtype) for name in self.special]
        return self.stack(torch.cat([*first, x], 1), places)

    def places_of(self, rows: int, columns: int) -> Places:
        """Return where the tokens of an image of so many pixels stand; equal sizes are one object."""
        grid = self.patch_embed.grid_of(rows, columns)
        if grid == self.patch_embed.grid:
            return self.places
        return self._others.setdefault(grid, Places.grid(*grid, special=len(self.places) - prod(self.patch_embed.grid)))

    def note_size(self, image_size: int) -> str | None:
        """Return a line on what becomes of the position tables for images of this side; None: nothing does.

        Raises:
            DataError: the patches' side does not divide it.
        """
        grid, built = self.patch_embed.grid_of(image_size, image_size), self.patch_embed.grid
        tables = any(True for _ in self.stack.positions.parameters())
        if grid == built or not tables:
            return None
        return note_resized(built, grid, getattr(self.stack.positions[0], "resample", "transformers"))

    @property
    def layers(self) -> int:
        return self.stack.layers

    def layer_of(self, name: str) -> int:
        """Return 0 for the stem and positions, 1 to depth for the blocks, depth + 1 for the last norm and the heads."""
        part, _, rest = name.partition(".")
        if part == "stack":
            return self.stack.layer_of(rest)
        return 0 if part in ("patch_embed", *self.special) else self.layers + 1


class ViT(PatchEncoder):
    """Patches, a class token, positions, pre-norm blocks, a linear head.

    The head starts at zero, as the paper fine-tunes it. Without a class token the last norm follows the mean of the
    patches (as in timm and MAE), or precedes the attention that pools them (as in big_vision). The tanh layer that the
    ImageNet-21k files carry before the head is left out.

    Args:
        width: D.
        heads: H.
        num_classes: K.
        mlp_width: hidden width of the MLPs; 4 D by default.
        pool: class (read the class token), mean (of the patches, then a norm), normed_mean (a norm, then the mean) or
            attention (a learned query reads the normed patches).
        pool_activation: of the MLP behind a pooling attention.
        registers: further special tokens after the class token, which nothing reads (Darcet et al. 2024).
        norm: layer or rms.
        norm_eps: epsilon of the norms; not stored in weights, 1e-6 in the paper's.
        encoder: what else a `PatchEncoder` takes.

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
        """Linear maps as in the official JAX code (`init_as_vit`), registers normal, a zero head."""
        init_as_vit(self)
        if self.register_tokens is not None:
            nn.init.normal_(self.register_tokens, std=0.02)
        nn.init.zeros_(self.head.weight)

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Tokens of the last block (class token and registers first) and the vector that the head reads."""
        tokens = self.tokens(image)
        if self.attention_pool is not None:
            pooled = self.attention_pool(tokens[:, self.num_registers :])
        else:
            pooled = tokens[:, 0] if self.pool == "class" else tokens[:, self.num_registers :].mean(1)
        return Features(tokens, self.head_norm(pooled))

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]:
        return self.head(self.features(image).pooled)
