"""Zero-shot classification: each class is the mean embedding of its prompts.

Radford et al. 2021, section 3.1: prompts are encoded, normalised, averaged over the templates and normalised again;
the predicted class of an image is the one with the largest cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tfcli.probes.scores import Figures, ranked, score
from tfcli.shapes import Float, Int
from tfcli.tasks.zeroshot import class_vectors


@dataclass
class ZeroShot:
    """Figures of the ensemble of all templates and of each single template, and the ensemble's logits."""

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
    """Return the embeddings of many texts, in batches of similar length to save padding."""
    order = tokens.argmax(1).argsort(stable=True)  # the end mark has the largest id
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
    """Classify images by their cosine with the classes' prompts.

    Args:
        image: image embeddings, of any norm.
        label: true classes.
        texts: embeddings of each class's prompts, `T / len(templates)` for each template, in the templates' order.
        templates: the templates.
        scale: factor on the cosines; it changes probabilities, but not the order.
    """

    def figures(logits: Tensor) -> Figures:
        return score(ranked(logits), label, num_classes=len(texts))

    image = normalize(image, dim=-1)
    each = texts.unflatten(1, (len(templates), -1)).unbind(1)
    alone = []
    if len(templates) > 1:
        alone = [(name, figures(image @ class_vectors(t).mT)) for name, t in zip(templates, each, strict=True)]
    logits = scale * image @ class_vectors(texts).mT
    joint = figures(logits)
    return ZeroShot(joint, alone or [(templates[0], joint)], logits)
