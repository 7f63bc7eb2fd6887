"""CLIP: an image encoder and a text encoder with a joint embedding space, in which captions are near their images.

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
from tfcli.models.vit import PatchEncoder, StemName
from tfcli.nn.embeddings import PatchEmbed, Stem
from tfcli.nn.init import init_by_width
from tfcli.shapes import Float, Int


class CLIP(nn.Module):
    """Two encoders and a learned temperature; the score of an image and a text is their scaled cosine similarity.

    The loss is in `tasks/contrastive.py`.

    Args:
        embed_width: E of the joint space.
        image: `VisionTransformer` or `ModifiedResNet`, projecting to E.
        text: `TextTransformer` or `TextBag`, projecting to E.
        logit_scale_start: initial inverse of the temperature (1 / 0.07).
        logit_scale_max: its upper limit, which `clamp_scale` enforces after each optimizer step.

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
        """Return the tokens of the last layer and the vector before the projection, as for the paper's probes (3.2)."""
        return self.image.features(image)

    def project(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Project `features(image).pooled` to the joint space, without normalising."""
        return self.image.project(pooled)

    def encode_image(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B E"]:
        """Return the embeddings of images in the joint space, not normalised."""
        return self.project(self.features(image).pooled)

    def encode_text(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B E"]:
        """Return the embeddings of texts (ids of a `tfcli.text` tokenizer) in the joint space, not normalised."""
        return self.text(tokens)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The logit scale: the factor on the cosines, which is the inverse of the temperature."""
        return self.logit_scale.exp()

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Limit the scale to `logit_scale_max`."""
        self.logit_scale.clamp_(max=log(self.logit_scale_max))

    def forward(self, image: Float[Tensor, "B C Y X"], tokens: Int[Tensor, "M N"]) -> Float[Tensor, "B M"]:
        """Return the scaled cosine of every image with every text."""
        image = nn.functional.normalize(self.encode_image(image), dim=-1)
        text = nn.functional.normalize(self.encode_text(tokens), dim=-1)
        return self.scale * image @ text.mT

    @property
    def layers(self) -> int:
        """The number of layers of the deeper tower."""
        return max(self.image.layers, self.text.layers)

    def layer_of(self, name: str) -> int:
        """Return 0 for stems and positions, up to `layers` for blocks, `layers` + 1 for the parts after them.

        The last blocks of both towers have the same number.
        """
        part, _, rest = name.partition(".")
        tower = {"image": self.image, "text": self.text}.get(part)
        layer = tower.layer_of(rest) if tower else 1 + self.layers
        return layer + self.layers - tower.layers if tower and layer else layer


class VisionTransformer(PatchEncoder):
    """The image tower as a ViT with a norm before the first block; the last norm acts on the class token (section 2.4).

    Blocks are initialised as in the text tower; the release uses PyTorch's defaults for those of the image tower. `pos`
    initialises the positions (the release: standard deviation D^-1/2).

    Args:
        width: D, the width of the tokens.
        embed_width: E of the joint space.
        stem: map from pixels to tokens (see `vit.STEMS`); patch has no bias here, since a norm follows.
        norm_eps: epsilon of the layer norms.
        encoder: further arguments of `PatchEncoder`. activation is quick_gelu for OpenAI's weights, gelu for most
            others; a wrong activation lowers the accuracy without any error.

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
        """Return the tokens of the last block (class token first, before the norm) and the normed class token."""
        tokens = self.tokens(image)
        return Features(tokens, self.norm(tokens[:, 0]))

    def project(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Project `features(image).pooled` to the joint space."""
        return self.proj(pooled)
