"""Vision Transformer: an image is a sentence of patches.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, Natural, Positive
from tfcli.models.protocols import Features
from tfcli.nn.attention import Attention
from tfcli.nn.blocks import Activation, Norm, make_norm
from tfcli.nn.embeddings import Stem
from tfcli.nn.init import init_as_vit
from tfcli.nn.places import Places
from tfcli.nn.pooling import AttentionPool
from tfcli.nn.positions import Position
from tfcli.nn.stack import Stack
from tfcli.nn.stems import StemName, make_stem
from tfcli.shapes import Float

POOLS = ("class", "mean", "normed_mean", "attention")


class ViT(nn.Module):
    """Patches, a class token, positions, pre-norm blocks, a linear head.

    The head starts at zero, as the paper fine-tunes it. Without a class token the last norm follows the mean of the
    patches (as in timm and MAE), or precedes the attention that pools them (as in big_vision). The tanh layer that the
    ImageNet-21k files carry before the head is left out.

    Args:
        width: D.
        depth: number of blocks.
        heads: H.
        image_size: side of the image in pixels.
        patch_size: side of a patch in pixels of the image, whatever the stem.
        num_classes: K.
        attn: makes an attention (`conf/attn`).
        pos: makes a position (`conf/pos`).
        mlp_width: hidden width of the MLPs; 4 D by default.
        stem: how patches become tokens: patch, overlap, conv, hybrid (see `nn.stems`), or what makes another.
        pool: class (read the class token), mean (of the patches, then a norm), normed_mean (a norm, then the mean) or
            attention (a learned query reads the normed patches).
        pool_activation: of the MLP behind a pooling attention.
        registers: further special tokens after the class token, which nothing reads (Darcet et al. 2024).
        norm: layer or rms.
        norm_eps: epsilon of the norms; not stored in weights, 1e-6 in the paper's.
        blocks: what else a `Stack` takes: activation, mlp_bias, post_norm, stem_norm, layer_scale, dropout (0.1 in the
            paper's ImageNet-only training, 0 in fine-tuning), attention_dropout, drop_path.

    Raises:
        ValueError: `patch_size` does not divide `image_size`, `heads` does not divide `width`, or there is no such stem
            or pooling.
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
        num_classes: int,
        attn: Callable[..., Attention],
        pos: Callable[..., Position],
        mlp_width: Count | None = None,
        stem: StemName | Callable[..., Stem] = "patch",
        pool: Literal["class", "mean", "normed_mean", "attention"] = "class",
        pool_activation: Activation = "gelu",
        registers: Natural = 0,
        norm: Norm = "layer",
        norm_eps: Positive = 1e-6,
        **blocks: Any,
    ):
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"`model.pool` must be one of {', '.join(POOLS)}, but is {pool!r}.")
        self.pool = pool
        special = registers + (pool == "class")
        self.patch_embed = make_stem(stem, width, image_size=image_size, patch_size=patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if pool == "class" else None
        self.register_tokens = nn.Parameter(torch.empty(1, registers, width)) if registers else None
        self.places = Places.grid(*self.patch_embed.grid, special=special)
        normed: dict[str, Any] = {"norm": norm, "norm_eps": norm_eps}
        self.stack = Stack(
            width,
            depth=depth,
            heads=heads,
            attn=attn,
            pos=pos,
            extent=self.patch_embed.grid,
            special=special,
            mlp_width=mlp_width,
            final_norm=pool != "mean",
            **normed,
            **blocks,
        )
        self.attention_pool = (
            AttentionPool(width, heads=heads, mlp_width=mlp_width, activation=pool_activation, **normed)
            if pool == "attention"
            else None
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
        x = self.patch_embed(image)
        first = [t.expand(len(x), -1, -1).to(x.dtype) for t in (self.cls_token, self.register_tokens) if t is not None]
        tokens = self.stack(torch.cat([*first, x], 1), self.places)
        if self.attention_pool is not None:
            pooled = self.attention_pool(tokens[:, self.num_registers :])
        else:
            pooled = tokens[:, 0] if self.pool == "class" else tokens[:, self.num_registers :].mean(1)
        return Features(tokens, self.head_norm(pooled))

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]:
        return self.head(self.features(image).pooled)

    @property
    def num_registers(self) -> int:
        return 0 if self.register_tokens is None else self.register_tokens.shape[1]

    @property
    def layers(self) -> int:
        return len(self.stack.blocks)

    def layer_of(self, name: str) -> int:
        """0 for the stem and positions, 1 to depth for the blocks, depth + 1 for the last norm and the head."""
        if name.startswith("stack.blocks."):
            return int(name.split(".")[2]) + 1
        first = ("patch_embed", "cls_token", "register_tokens", "stack.positions")
        return 0 if name.startswith(first) else self.layers + 1
