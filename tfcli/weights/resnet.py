"""ResNet checkpoints of torchvision, timm and akamaster's CIFAR repository: all name the head their own way."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from tfcli.models.resnet import SIZES, Residual


def convert(
    state: dict[str, Tensor], net: Residual, *, config: dict[str, Any] | None = None
) -> tuple[dict[str, Tensor], list[str], dict[str, Any]]:
    """`fc` (torchvision, timm) and `linear` (CIFAR) -> `head`; the other names are the same.

    Returns:
        Tensors by our names, no lines for the log, no settings.
    """

    def ours(name: str) -> str:
        for head in ("fc.", "linear."):
            if name.startswith(head):
                return "head." + name.removeprefix(head)
        return name

    return {ours(name): tensor for name, tensor in state.items()}, [], {}


def describe(state: dict[str, Tensor]) -> str:
    """For an error's text: the model that the weights are for, or nothing if they are no ResNet's."""
    stem = state.get("conv1.weight")
    blocks = [name.split(".")[:2] for name in state if re.fullmatch(r"layer\d\.\d+\.conv1\.weight", name)]
    if stem is None or not blocks:
        return ""
    counts = tuple(sum(stage == f"layer{number}" for stage, _ in blocks) for number in range(1, 5))
    kind = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    depth = next((depth for depth, size in SIZES.items() if size == (kind, counts)), None)
    if counts[3] == 0:
        depth = 2 * sum(counts) + 2
    return f" The file is a ResNet-{depth}: try `model=resnet{depth}`." if depth else ""


def torchvision_name(net: Residual) -> str | None:
    """What torchvision calls this network; None for the CIFAR form."""
    return net.torchvision_name


def torchvision_name_of(settings: dict[str, Any]) -> str | None:
    """Return what torchvision calls the network of these settings; None for the CIFAR form."""
    return f"resnet{settings['depth']}" if settings.get("depth") in SIZES else None
