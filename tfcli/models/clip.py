"""CLIP: an image tower and a text tower that meet in one space, where captions lie near their images.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", section 2 and appendix F.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import log
from typing import Any

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, Positive
from tfcli.models.protocols import Features
from tfcli.models.resnet import ModifiedResNet
from tfcli.models.text_encoder import TextBag, TextTransformer
from tfcli.models.vit import PatchEncoder
from tfcli.nn.embeddings import PatchEmbed, Stem
from tfcli.nn.init import init_by_width
from tfcli.nn.stems import StemName
from tfcli.shapes import Float, Int


class CLIP(nn.Module):
    """Two encoders and a learned temperature; an image's score for a text is the scaled cosine of their embeddings.

    The loss lives in `tasks/contrastive.py`.

    Args:
        embed_width: E of the joint space.
        image: `VisionTransformer` or `ModifiedResNet`, projecting to E.
        text: `TextTransformer` or `TextBag`, projecting to E.
        logit_scale_start: the temperature's inverse at the start (1 / 0.07).
        logit_scale_max: the largest it may become; `clamp_scale` sees to it after each optimizer step.

    Raises:
        ValueError: a tower projects to another width than E.
    """

    def __init__(
        self,
        embed_width: Count,
        *,
        image: VisionTransformer | ModifiedResNet,
        text: TextTransformer | TextBag,
        logit_scale_start: Positive = 1 / 0.07,
        logit_scale_max: Positive = 100.0,
    ):
        super().__init__()
        for name, tower in (("image", image), ("text", text)):
            if tower.embed_width != embed_width:
                raise ValueError(
                    f"`model.{name}.embed_width` must equal `model.embed_width`, {embed_width}, "
                    f"but is {tower.embed_width}."
                )
        if not 0 < logit_scale_start <= logit_scale_max:
            raise ValueError(
                f"`model.logit_scale_start` must lie between 0 and `logit_scale_max`, {logit_scale_max:g}, "
                f"but is {logit_scale_start:g}."
            )
        self.embed_width, self.logit_scale_max = embed_width, logit_scale_max
        self.image, self.text = image, text
        self.logit_scale = nn.Parameter(torch.tensor(log(logit_scale_start)))

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Tokens of the last layer and the vector that is projected: what the paper's probes read (section 3.2)."""
        return self.image.features(image)

    def project(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """`features(image).pooled` in the joint space, not normalised."""
        return self.image.project(pooled)

    def encode_image(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B E"]:
        """Images in the joint space, not normalised."""
        return self.project(self.features(image).pooled)

    def encode_text(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B E"]:
        """Texts in the joint space, not normalised. `tokens` are as a `tfcli.text` tokenizer gives them."""
        return self.text(tokens)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """Logit scale: the factor on the cosines, the inverse of the temperature."""
        return self.logit_scale.exp()

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Hold the scale at `logit_scale_max` or below."""
        self.logit_scale.clamp_(max=log(self.logit_scale_max))

    def forward(self, image: Float[Tensor, "B C Y X"], tokens: Int[Tensor, "M N"]) -> Float[Tensor, "B M"]:
        """Scaled cosines of every image with every text."""
        image = nn.functional.normalize(self.encode_image(image), dim=-1)
        text = nn.functional.normalize(self.encode_text(tokens), dim=-1)
        return self.scale * image @ text.mT

    @property
    def layers(self) -> int:
        """Of the deeper tower."""
        return max(self.image.layers, self.text.layers)

    def layer_of(self, name: str) -> int:
        """0 for stems and positions, then the blocks, the towers level at their last; `layers` + 1 for what follows."""
        part, _, rest = name.partition(".")
        tower = {"image": self.image, "text": self.text}.get(part)
        layer = tower.layer_of(rest) if tower else 1 + self.layers
        return layer + self.layers - tower.layers if tower and layer else layer


class VisionTransformer(PatchEncoder):
    """The image tower as a ViT with a norm before the first block; the last norm is of the class token (section 2.4).

    Positions start as `pos` says (the release: deviation D^-1/2). The blocks start as the text tower's do; the release
    leaves the image tower's at PyTorch's defaults.

    Args:
        width: D.
        embed_width: E of the joint space.
        stem: how patches become tokens (see `nn.stems`); patch has no bias here, since a norm follows.
        norm_eps: epsilon of the layer norms.
        encoder: what else a `PatchEncoder` takes. activation is quick_gelu for OpenAI's weights, gelu for most others;
            a wrong one costs accuracy without a word.

    Raises:
        ValueError: there is no such stem or activation, or the sizes do not divide.
    """

    cls_token: nn.Parameter

    def __init__(
        self,
        width: Count,
        *,
        embed_width: Count,
        stem: StemName | Callable[..., Stem] = "patch",
        norm_eps: Positive = 1e-5,
        **encoder: Any,
    ):
        super().__init__(
            width,
            special={"cls_token": 1},
            stem=partial(PatchEmbed, bias=False) if stem == "patch" else stem,
            stem_norm=True,
            final_norm=False,
            norm_eps=norm_eps,
            **encoder,
        )
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.proj = nn.Linear(width, embed_width, bias=False)
        self.embed_width = embed_width
        nn.init.normal_(self.cls_token, std=width**-0.5)
        nn.init.normal_(self.proj.weight, std=width**-0.5)
        init_by_width(self.stack)

    def features(self, image: Float[Tensor, "B C Y X"]) -> Features:
        """Tokens of the last block (class token first, not normalised) and the class token after the last norm."""
        tokens = self.tokens(image)
        return Features(tokens, self.norm(tokens[:, 0]))

    def project(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        return self.proj(pooled)
