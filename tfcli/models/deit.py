"""DeiT: a Vision Transformer with a distillation token, which learns from a teacher.

Touvron et al. 2021, "Training data-efficient image transformers & distillation through attention", section 4. Without
that token DeiT is a ViT with another recipe: `model=vit_s16` with `experiment=deit_imagenet`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tfcli.bounds import Count
from tfcli.models.protocols import Features
from tfcli.models.vit import PatchEncoder
from tfcli.nn.init import init_as_vit
from tfcli.shapes import Float


class DeiT(PatchEncoder):
    """DeiT classifier: class token, distillation token, patches; pre-norm blocks; a linear head for each token.

    The output is the mean of both heads' logits, as in the released code; the paper adds the two softmaxes.

    Args:
        width: D, the width of the tokens.
        num_classes: K, the number of classes.
        encoder: further arguments of `PatchEncoder`; drop_path is 0.1 in the paper. Learned positions have an entry for
            each of the two tokens.

    Raises:
        ValueError: sizes do not divide one another, or there is no such stem.
        IncompatibleError: attention and positions do not fit together.
    """

    cls_token: nn.Parameter
    dist_token: nn.Parameter

    def __init__(self, width: Count, *, num_classes: Count, **encoder: Any):
        super().__init__(width, special={"cls_token": 1, "dist_token": 1}, **encoder)
        self.head, self.head_dist = (nn.Linear(width, num_classes) for _ in range(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as a ViT, so that the two differ in the token alone, with zero heads.

        The two tokens, which would be equal without positions, are drawn from N(0, 0.02^2). The released code draws all
        linear maps from this distribution, with which a narrow model learns slowly.
        """
        init_as_vit(self)
        for token in (self.cls_token, self.dist_token):
            nn.init.normal_(token, std=0.02)
        for head in (self.head, self.head_dist):
            nn.init.zeros_(head.weight)

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Return the tokens of the last block (class, distillation, patches) and the mean of the first two."""
        tokens = self.tokens(image)
        return Features(tokens, tokens[:, :2].mean(1))

    def forward(
        self, image: Float[Tensor, "B C Y X"], *, separate: bool = False
    ) -> Float[Tensor, "B K"] | tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]]:
        """Return the logits; with `separate`, those of the class token and those of the distillation token."""
        tokens = self.tokens(image)
        logits, distilled = self.head(tokens[:, 0]), self.head_dist(tokens[:, 1])
        return (logits, distilled) if separate else (logits + distilled) / 2
