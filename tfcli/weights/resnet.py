"""ResNet checkpoints of torchvision, timm, transformers and akamaster's CIFAR repository, and what each says.

All but transformers' have our names but for the head (`fc`, `linear`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tfcli.errors import WeightsError
from tfcli.models.resnet import SIZES, Residual
from tfcli.weights.files import Checkpoint
from tfcli.weights.layout import Layout, labels

SHAPES = ("depth", "stem")
"""Settings that the tensors fix, so that no other value can be typed."""
HOLDS = {"_target_": "tfcli.models.resnet.ResNet", "stem": "imagenet"}
"""Values that torchvision's ResNets can hold, see `tfcli.weights.layout`."""
LACKING = {
    "a stem of several convolutions": r"conv1\.0\.",
    "squeeze-and-excitation": r"layer\d\.\d+\.se\.",
    "shortcuts that pool": r"layer\d\.\d+\.downsample\.2\.",
    "group norm": r"layer\d\.\d+\.norm\d\.",
}
"""A feature that our ResNet has not -> the names in a file that show it."""
HARMLESS = ("num_classes", "in_chans", "img_size", "global_pool", "zero_init_last")
"""Arguments of timm's ResNets that change nothing of what a trained one computes; all that drops (`drop_rate`), too."""


def convert(
    state: dict[str, Tensor], net: Residual, *, config: dict[str, Any] | None = None
) -> tuple[dict[str, Tensor], list[str], dict[str, Any]]:
    """Rename the tensors.

    Returns:
        Tensors by our names, no lines for the log, no settings.

    Raises:
        WeightsError: the checkpoint uses a feature that our ResNet does not have.
    """
    return _renamed(state, config or {}), [], {}


def blueprint(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    """Return depth and stem; None where it is no ResNet.

    Raises:
        WeightsError: it uses a feature, or is of a size, that our ResNet does not have.
    """
    state = _renamed(checkpoint.state, checkpoint.config)
    kind, counts = _blocks(state)
    stem = state.get("conv1.weight")
    if stem is None or not sum(counts):
        return None
    if stem.shape[0] == 16 and counts[3] == 0:
        return {"_target_": "tfcli.models.resnet.CifarResNet", "depth": 2 * sum(counts) + 2}, {}, []
    depth = next((depth for depth, size in SIZES.items() if size == (kind, counts)), None)
    inner = state["layer1.0.conv2.weight"]
    lacking = ""
    if depth is None:
        lacking = f"stages of {', '.join(map(str, counts))} {kind} blocks"
    elif stem.shape[0] != 64 or inner.shape[0] != 64:
        lacking = f"a first stage of width {inner.shape[0]} on a stem of {stem.shape[0]}"
    elif inner.shape[1] != inner.shape[0]:
        lacking = f"convolutions in groups of {inner.shape[1]} channels"
    if lacking:
        raise WeightsError(f"this checkpoint uses {lacking}, which tfcli's ResNet does not have.")
    stem_kind = "imagenet" if stem.shape[-1] == 7 else "cifar"
    return {"_target_": "tfcli.models.resnet.ResNet", "depth": depth, "stem": stem_kind}, {}, []


def export(state: dict[str, Tensor], settings: dict[str, Any], classes: Sequence[str] = ()) -> Layout:
    """Return a model of ours as torchvision's ResNet of the same depth, whose names are ours but for the head's.

    Args:
        state: tensors by our names.
        settings: `config.model` as plain values, checked against `HOLDS`.
        classes: names of the head's outputs, stated in a `config.json` that torchvision does not need.
    """
    name = f"resnet{settings['depth']}"
    theirs = {re.sub(r"^head\.", "fc.", name): tensor.detach().cpu().clone() for name, tensor in state.items()}
    config = {"architectures": [name], **labels(classes, len(state["head.weight"]))}
    return Layout(library="torchvision", architecture=name, state=theirs, config=config)


def _renamed(state: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    for feature, pattern in LACKING.items():
        if any(re.match(pattern, name) for name in state):
            raise WeightsError(f"this checkpoint uses {feature}, which tfcli's ResNet does not have.")
    _check_config(config)
    return {_ours(name): tensor for name, tensor in state.items()}


def _check_config(config: dict[str, Any]) -> None:
    """Refuse what a config states and no tensor shows.

    Raises:
        WeightsError: our ResNet does not have it.
    """
    kind, name = config.get("model_type"), str(config.get("architecture", "resnet0"))
    if kind not in (None, "resnet"):
        raise WeightsError(f"the checkpoint is transformers' {kind}, which is not read; resnet is.")
    lacking = []
    if config.get("hidden_act", "relu") != "relu":
        lacking.append(f"the activation {config['hidden_act']!r}")
    if config.get("downsample_in_bottleneck"):
        lacking.append("bottlenecks that stride in their first convolution")
    if config.get("downsample_in_first_stage"):
        lacking.append("a first stage that strides")
    if not re.fullmatch(r"(?:tv_)?resnet\d+", name):
        lacking.append(f"the architecture {name} of timm")
    made_with = config.get("model_args") or {}
    lacking += [
        f"{key}={value} of timm"
        for key, value in made_with.items()
        if key not in HARMLESS and "drop" not in key and value not in (None, False)
    ]
    if config.get("global_pool", "avg") != "avg":
        lacking.append(f"`{config['global_pool']}` pooling")
    if lacking:
        raise WeightsError(f"this checkpoint uses {', '.join(lacking)}, which tfcli's ResNet does not have.")


def _ours(name: str) -> str:
    head = re.match(r"(?:fc|linear|classifier\.1)\.", name)
    if head:
        return "head." + name[head.end() :]
    name = name.removeprefix("resnet.")
    parts = {"convolution": "conv", "normalization": "bn"}
    if stem := re.fullmatch(r"embedder\.embedder\.(\w+)\.(\w+)", name):
        return f"{parts[stem[1]]}1.{stem[2]}"
    block = re.fullmatch(r"encoder\.stages\.(\d)\.layers\.(\d+)\.(shortcut|layer\.(\d))\.(\w+)\.(\w+)", name)
    if not block:
        return name
    stage, part = f"layer{int(block[1]) + 1}.{block[2]}", parts[block[5]]
    if block[3] == "shortcut":
        return f"{stage}.downsample.{int(part == 'bn')}.{block[6]}"
    return f"{stage}.{part}{int(block[4]) + 1}.{block[6]}"


def _blocks(state: dict[str, Tensor]) -> tuple[str, tuple[int, ...]]:
    blocks = [name.split(".")[0] for name in state if re.fullmatch(r"layer\d\.\d+\.conv1\.weight", name)]
    kind = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    return kind, tuple(blocks.count(f"layer{number}") for number in range(1, 5))


def describe(state: dict[str, Tensor]) -> str:
    """Return, for an error's text, the model that the weights are for, or nothing if they are no ResNet's."""
    kind, counts = _blocks(state)
    if "conv1.weight" not in state or not sum(counts):
        return ""
    depth = next((depth for depth, size in SIZES.items() if size == (kind, counts)), None)
    if counts[3] == 0:
        depth = 2 * sum(counts) + 2
    name = f"resnet{depth}" if depth in (*SIZES, 20, 32, 44, 56, 110) else "resnet_cifar"
    return f" The file is a ResNet-{depth}: try `model={name}`." if depth else ""


def torchvision_name(net: Residual) -> str | None:
    """Return torchvision's name of this network; None for the CIFAR form."""
    return net.torchvision_name


def torchvision_name_of(settings: dict[str, Any]) -> str | None:
    """Return what torchvision calls the network of these settings; None for the CIFAR form."""
    return f"resnet{settings['depth']}" if settings.get("depth") in SIZES else None
