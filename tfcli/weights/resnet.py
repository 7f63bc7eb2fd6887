"""ResNet checkpoints of torchvision, timm and akamaster's CIFAR repository: all name the head their own way."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def convert(
    state: dict[str, Tensor], net: nn.Module, *, config: dict[str, Any] | None = None
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


def torchvision_name(net: nn.Module) -> str | None:
    """What torchvision calls this network; None for the CIFAR form."""
    return getattr(net, "torchvision_name", None)
