"""Distilled DeiT checkpoints of transformers and timm: a ViT's, with a token and a head more.

Transformers' `DeiTForImageClassification` has the token but no head for it: that head is new after loading its file.
Its own answer, of the class token alone, is that of a ViT with the other token as a register: `model=vit` takes it so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tfcli.weights.files import Checkpoint
from tfcli.weights.layout import Layout
from tfcli.weights.names import State
from tfcli.weights.vit import HOLDS, SHAPES, convert, describe, lay_out, plan

__all__ = ["HOLDS", "READS", "SHAPES", "blueprint", "convert", "describe", "export"]
READS = {"deit": "DeiT", "vit": "ViT"}


def blueprint(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    """Return what a checkpoint says of its model and the size of its images; None for our own names.

    Raises:
        WeightsError: it has no distillation token, or uses a feature that our DeiT does not have.
    """
    return plan(checkpoint, family="DeiT")


def export(state: State, settings: dict[str, Any], classes: Sequence[str] = ()) -> Layout:
    """Return a model of ours as transformers' DeiTForImageClassificationWithTeacher, whose answer is ours too.

    Args:
        state: tensors by our names.
        settings: `config.model` as plain values, checked against `HOLDS`.
        classes: names of the heads' outputs.
    """
    layout = lay_out(state, settings, classes, kind="deit", architecture="DeiTForImageClassificationWithTeacher")
    own = {name: f"cls_{name}" for name in layout.state if name.startswith("classifier.")}
    return replace(layout, state={own.get(name, name): tensor for name, tensor in layout.state.items()})
