"""DeiT: a Vision Transformer with a second token that listens to a teacher.

Touvron et al. 2021, "Training data-efficient image transformers & distillation through attention", section 4. Without
that token DeiT is a ViT with another recipe: `model=vit_s16` under `experiment=deit_imagenet`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, Positive
from tfcli.models.protocols import Features
from tfcli.nn.attention import Attention
from tfcli.nn.embeddings import Stem
from tfcli.nn.init import init_as_vit
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
from tfcli.nn.stack import Stack
from tfcli.nn.stems import StemName, make_stem
from tfcli.shapes import Float


class DeiT(nn.Module):
    """Class token, distillation token, patches; pre-norm blocks; a linear head for each of the two tokens.

    Its answer is the mean of both heads' logits, as in the released code; the paper adds the two softmaxes.

    Args:
        width: D.
        depth: number of blocks.
        heads: H.
        image_size: side of the image in pixels.
        patch_size: side of a patch in pixels.
        num_classes: K.
        attn: makes an attention (`conf/attn`).
        pos: makes a position (`conf/pos`); a learned table has an entry for each of the two tokens.
        mlp_width: hidden width of the MLPs; 4 D by default.
        stem: how patches become tokens: patch, overlap, conv, hybrid (see `nn.stems`), or what makes another.
        norm_eps: epsilon of the norms; not stored in weights, 1e-6 in the paper's.
        blocks: what else a `Stack` takes: norm, activation, post_norm, layer_scale, dropout, attention_dropout,
            drop_path (0.1 in the paper).

    Raises:
        ValueError: `patch_size` does not divide `image_size`, `heads` does not divide `width`; no such stem.
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
        norm_eps: Positive = 1e-6,
        **blocks: Any,
    ):
        super().__init__()
        self.patch_embed = make_stem(stem, width, image_size=image_size, patch_size=patch_size)
        self.cls_token, self.dist_token = (nn.Parameter(torch.empty(1, 1, width)) for _ in range(2))
        self.places = Places.grid(*self.patch_embed.grid, special=2)
        self.stack = Stack(
            width,
            depth=depth,
            heads=heads,
            attn=attn,
            pos=pos,
            extent=self.patch_embed.grid,
            special=2,
            mlp_width=mlp_width,
            norm_eps=norm_eps,
            **blocks,
        )
        self.head, self.head_dist = (nn.Linear(width, num_classes) for _ in range(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As a ViT's, so that the two differ in the token alone, with zero heads.

        The tokens, which would begin alike without positions, are normal with deviation 0.02. The released code draws
        all linear maps so, which a narrow model learns slowly from.
        """
        init_as_vit(self)
        for token in (self.cls_token, self.dist_token):
            nn.init.normal_(token, std=0.02)
        for head in (self.head, self.head_dist):
            nn.init.zeros_(head.weight)

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Tokens of the last block (class, distillation, patches) and the mean of the first two, as timm pools them."""
        x = self.patch_embed(image)
        first = torch.cat([self.cls_token, self.dist_token], 1).expand(len(x), 2, -1)
        tokens = self.stack(torch.cat([first.to(x.dtype), x], 1), self.places)
        return Features(tokens, tokens[:, :2].mean(1))

    def forward(
        self, image: Float[Tensor, "B C Y X"], *, separate: bool = False
    ) -> Float[Tensor, "B K"] | tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]]:
        """Logits; with `separate` those of the class token and those of the distillation token, for training."""
        tokens = self.features(image).tokens
        own, taught = self.head(tokens[:, 0]), self.head_dist(tokens[:, 1])
        return (own, taught) if separate else (own + taught) / 2

    @property
    def layers(self) -> int:
        return len(self.stack.blocks)

    def layer_of(self, name: str) -> int:
        """0 for the stem and positions, 1 to depth for the blocks, depth + 1 for the last norm and the heads."""
        if name.startswith("stack.blocks."):
            return int(name.split(".")[2]) + 1
        stem = ("patch_embed", "cls_token", "dist_token", "stack.positions")
        return 0 if name.startswith(stem) else self.layers + 1
