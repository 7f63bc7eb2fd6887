"""Zero-shot classification with an image and text encoder: unit vectors of classes, and logits of images.

Radford et al. 2021, section 3.1.4. Imports no Lightning, so that `predict` and `probe` may use it at once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tfcli.models.protocols import ImageTextEncoder
from tfcli.shapes import Float, Int


def encode_classes(
    encode_text: Callable[[Tensor], Tensor], tokens: Int[Tensor, "K T L"], *, batch_size: int = 1024
) -> Float[Tensor, "K E"]:
    """Return a unit vector for each class, from its prompts.

    Args:
        encode_text: function from tokens (B, L) to embeddings (B, E).
        tokens: tokens of each template of each class.
        batch_size: number of texts encoded at once.
    """
    parts = [encode_text(rows).float() for rows in tokens.flatten(0, 1).split(batch_size)]
    return class_vectors(torch.cat(parts).unflatten(0, tokens.shape[:2]))


def class_vectors(texts: Float[Tensor, "K T E"]) -> Float[Tensor, "K E"]:
    """Return for each class the normalised mean of the unit vectors of its T prompts."""
    return normalize(normalize(texts, dim=-1).mean(1), dim=-1)


def class_logits(
    net: ImageTextEncoder, image: Float[Tensor, "B C Y X"], classes: Float[Tensor, "K E"]
) -> Float[Tensor, "B K"]:
    """Return the scaled cosines of images with the unit vectors of classes."""
    return net.scale.float() * normalize(net.encode_image(image).float(), dim=-1) @ classes.mT
