"""Distilled DeiT checkpoints of transformers and timm: a ViT's, with a token and a head more.

Transformers' `DeiTForImageClassification` has the token but no head for it: that head is new after loading its file.
Its own answer, of the class token alone, is that of a ViT with the other token as a register: `model=vit` takes it so.
"""

from __future__ import annotations

from typing import Any

from tfcli.weights.files import Checkpoint
from tfcli.weights.vit import SHAPES, convert, describe, plan

__all__ = ["READS", "SHAPES", "blueprint", "convert", "describe"]
READS = {"deit": "DeiT", "vit": "ViT"}


def blueprint(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    """Return what a checkpoint says of its model and the size of its images; None for our own names.

    Raises:
        WeightsError: it has no distillation token, or uses a feature that our DeiT does not have.
    """
    return plan(checkpoint, family="DeiT")
