"""Vision Transformer: an image is a sentence of patches.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tfcli.models.protocols import Features
from tfcli.nn.attention import Attention
from tfcli.nn.embeddings import PatchEmbed
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
from tfcli.nn.stack import Stack
from tfcli.shapes import Float


class ViT(nn.Module):
    """Patches, a class token, positions, pre-norm blocks, a linear head.

    The head starts at zero, as the paper fine-tunes it. With `pool="mean"` there is no class token and the last norm
    follows the pooling (as in timm and MAE). The tanh layer that the ImageNet-21k files carry before the head is left
    out.

    Args:
        width: D.
        depth: number of blocks.
        heads: H.
        image_size: side of the image in pixels.
        patch_size: side of a patch in pixels.
        num_classes: K.
        attn: makes an attention (`conf/attn`).
        pos: makes a position (`conf/pos`).
        mlp_width: hidden width of the MLPs; 4 D by default.
        pool: class (read the class token) or mean (of the patches).
        norm_eps: epsilon of the layer norms; not stored in weights, 1e-6 in the paper's.
        dropout: on embeddings and inside blocks (0.1 in the paper's ImageNet-only training, 0 in fine-tuning).
        attention_dropout: on the attention weights.
        drop_path: stochastic depth in the last block, falling linearly to 0 in the first.

    Raises:
        ValueError: `patch_size` does not divide `image_size`, `heads` does not divide `width`, or there is no such
            pooling.
    """

    def __init__(
        self,
        width: int,
        *,
        depth: int,
        heads: int,
        image_size: int,
        patch_size: int,
        num_classes: int,
        attn: Callable[..., Attention],
        pos: Callable[..., Position],
        mlp_width: int | None = None,
        pool: str = "class",
        norm_eps: float = 1e-6,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
    ):
        super().__init__()
        if pool not in ("class", "mean"):
            raise ValueError(f"`model.pool` must be class or mean, but is {pool!r}.")
        self.pool = pool
        special = 1 if pool == "class" else 0
        self.patch_embed = PatchEmbed(width, image_size=image_size, patch_size=patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if special else None
        self.places = Places.grid(*self.patch_embed.grid, special=special)
        self.stack = Stack(
            width,
            depth=depth,
            heads=heads,
            attn=attn,
            pos=pos,
            extent=self.patch_embed.grid,
            special=special,
            mlp_width=mlp_width,
            norm_eps=norm_eps,
            final_norm=pool == "class",
            dropout=dropout,
            attention_dropout=attention_dropout,
            drop_path=drop_path,
        )
        self.head_norm = nn.Identity() if pool == "class" else nn.LayerNorm(width, eps=norm_eps)
        self.head = nn.Linear(width, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform linear maps, zero biases but N(0, 1e-6) in the MLPs, a zero head (the official JAX code)."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.normal_(module.bias, std=1e-6) if ".mlp." in name else nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))
        assert self.patch_embed.proj.bias is not None
        nn.init.zeros_(self.patch_embed.proj.bias)
        nn.init.zeros_(self.head.weight)

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Tokens of the last block (class token first, where there is one) and the vector that the head reads."""
        x = self.patch_embed(image)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), 1, -1).to(x.dtype), x], 1)
        tokens = self.stack(x, self.places)
        pooled = tokens[:, 0] if self.pool == "class" else tokens.mean(1)
        return Features(tokens, self.head_norm(pooled))

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]:
        return self.head(self.features(image).pooled)

    @property
    def layers(self) -> int:
        return len(self.stack.blocks)

    def layer_of(self, name: str) -> int:
        """0 for the stem and positions, 1 to depth for the blocks, depth + 1 for the last norm and the head."""
        if name.startswith("stack.blocks."):
            return int(name.split(".")[2]) + 1
        return 0 if name.startswith(("patch_embed", "cls_token", "stack.positions")) else self.layers + 1
