"""Classification by text alone: each class is the mean of what the text tower makes of its prompts.

Radford et al. 2021, section 3.1: prompts are encoded, normalised, averaged over the templates and normalised again;
an image belongs to the class whose vector is nearest by cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tfcli.probes.scores import Figures, score
from tfcli.shapes import Float, Int
from tfcli.tasks.contrastive import class_vectors


@dataclass
class ZeroShot:
    """Figures of the ensemble of all templates, of each template alone, and the ensemble's scores."""

    figures: Figures
    templates: list[tuple[str, Figures]]
    logits: Float[Tensor, "N K"]


@torch.no_grad()
def encode_texts(
    encode: Callable[[Tensor], Tensor],
    tokens: Int[Tensor, "M L"],
    *,
    batch_size: int = 256,
    advance: Callable[[int], None] = lambda count: None,
) -> Float[Tensor, "M E"]:
    """Embeddings of many texts, short ones together: padding costs as much as words."""
    order = tokens.argmax(1).argsort(stable=True)  # the end has the largest id
    found: list[Tensor] = []
    for rows in order.split(batch_size):
        found.append(encode(tokens[rows]).float())
        advance(len(rows))
    result = torch.cat(found)
    return torch.empty_like(result).index_copy_(0, order.to(result.device), result)


def zero_shot(
    image: Float[Tensor, "N E"],
    label: Int[Tensor, "N"],
    texts: Float[Tensor, "K T E"],
    *,
    templates: Sequence[str],
    scale: float = 100.0,
) -> ZeroShot:
    """Classify images by the texts.

    Args:
        image: embeddings, of any length.
        label: right classes.
        texts: embeddings of each class's prompts, `T / len(templates)` of them a template, in the templates' order.
        scale: what cosines are multiplied by; it changes probabilities, never the order.
    """
    num_classes, image = len(texts), normalize(image, dim=-1)
    each = texts.unflatten(1, (len(templates), -1)).unbind(1)
    alone = []
    if len(templates) > 1:
        alone = [(name, _figures(image @ class_vectors(t).mT, label)) for name, t in zip(templates, each, strict=True)]
    logits = scale * image @ class_vectors(texts).mT
    assert logits.shape[1] == num_classes
    figures = _figures(logits, label)
    return ZeroShot(figures, alone or [(templates[0], figures)], logits)


def _figures(logits: Float[Tensor, "N K"], label: Int[Tensor, "N"]) -> Figures:
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return score(ranked, label, num_classes=logits.shape[1])
