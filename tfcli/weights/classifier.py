"""torchvision's own checkpoints, old and new, for `TorchvisionClassifier`."""

from __future__ import annotations

import re
from math import isqrt
from typing import Any

from torch import Tensor
from torchvision.models import VisionTransformer

from tfcli.models.classifier import TorchvisionClassifier
from tfcli.weights.files import Checkpoint
from tfcli.weights.positions import resize_positions

RENAMED = [  # torchvision itself renames these when it loads its files
    (r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)", r"\1\2"),
    (r"(.*encoder_layer_\d+\.mlp)\.linear_1\.(.*)", r"\1.0.\2"),
    (r"(.*encoder_layer_\d+\.mlp)\.linear_2\.(.*)", r"\1.3.\2"),
]
TABLE, PATCHES = "encoder.pos_embedding", "conv_proj.weight"
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")


def convert(
    state: dict[str, Tensor], net: TorchvisionClassifier, *, config: dict[str, Any] | None = None
) -> tuple[dict[str, Tensor], list[str], dict[str, Any]]:
    """Prefix `body.`, leave out auxiliary heads, resize the positions of vit_*.

    Returns:
        Tensors by our names, lines for the log, no settings.

    Raises:
        WeightsError: a position table is not that of a square grid.
    """
    notes: list[str] = []
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        name = name.removeprefix("body.")
        for pattern, replacement in RENAMED:
            name = re.sub(f"^{pattern}$", replacement, name)
        ours["body." + name] = tensor
    kept = {name: tensor for name, tensor in ours.items() if not name.removeprefix("body.").startswith(AUXILIARY)}
    if len(kept) < len(ours):
        notes.append("auxiliary heads: left out")
    table = f"body.{TABLE}"
    if table in kept and isinstance(net.body, VisionTransformer):
        side = net.body.image_size // net.body.patch_size
        resized, note = resize_positions(kept[table][0], (side, side), special=1, source="torchvision")
        kept[table] = resized[None]
        notes.extend([note] if note else [])
    return kept, notes, {}


def blueprint(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    """Return the size of images that a vit_* is for; None for the others, which take any size and are told by name."""
    state = {name.removeprefix("body."): tensor for name, tensor in checkpoint.state.items()}
    if TABLE not in state or PATCHES not in state:
        return None
    return {}, {"image_size": isqrt(state[TABLE].shape[1] - 1) * state[PATCHES].shape[-1]}, []


def torchvision_name(net: TorchvisionClassifier) -> str | None:
    """Return torchvision's name of this network."""
    return net.torchvision_name


def torchvision_name_of(settings: dict[str, Any]) -> str | None:
    """Return what torchvision calls the network of these settings."""
    return settings.get("name")
