"""Describe a composed config in numbers, without data and memory: the model is built on the meta device."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tfcli.engine.config.build import build
from tfcli.engine.loading import from_run
from tfcli.engine.loading.adopt import adopt_weights
from tfcli.engine.runs.published import published_for
from tfcli.errors import ConfigError
from tfcli.models.protocols import ImageTextEncoder, Translator


def describe(
    config: DictConfig, choices: dict[str, str], typed: Collection[str] | None = ()
) -> tuple[dict[str, Any], str]:
    """Return the facts of a composed config and the printed structure of its network.

    A run or a folder of weights that `model.weights` names gives the sizes, but for those in `typed`; nothing is
    fetched for it. Where `typed` is None, the config is that of a run, which has its sizes already. A set whose number
    of classes is known only from its files counts with 2 classes, a vocabulary that is made from its texts, without a
    size of its own, with 64 words.
    """
    weights = config.model.get("weights")
    if typed is not None and weights and (from_run.find_source_run(config) or Path(weights).expanduser().exists()):
        adopt_weights(config, typed)
    if config.model.get("tokenizer"):
        texts = config.model.get("text", config.model)  # a tower of its own, or all of the model
        texts.vocab_size = texts.vocab_size or config.model.tokenizer.vocab_size or 64
    classes_of = config.data.get("classes_of") or {}  # where a set has several columns of classes
    target = next((need for need in config.task.needs if need in classes_of), None)
    if target or config.data.get("num_classes") is None:
        OmegaConf.update(config, "data.num_classes", classes_of[target] if target else 2)
    try:
        net, forward, shapes = _measure(config, "meta")
    except (ConfigError, RuntimeError) as error:
        if "meta tensor" not in str(error):
            raise
        # torchvision's RegNets, and masks of sparse patterns, read a tensor, which a meta tensor cannot give
        net, forward, shapes = _measure(config, "cpu")
    total = sum(p.numel() for p in net.parameters())
    trainable = sum(p.numel() for p in net.parameters() if p.requires_grad)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    moments = 2 if choices.get("optim") == "adamw" else 1
    train = (config.data.get("counts") or {}).get("train")
    steps = None
    if train and "image" in config.task.needs:  # how many samples texts make, only their tokens say
        train = min(train, config.data.get("limit_train") or train)
        has_val = bool((config.data.get("counts") or {}).get("val"))
        train = train if has_val else train - round(train * config.data.val_fraction)
        epoch = -(-train // (config.data.batch_size * config.trainer.accumulate))
        total_steps = min(epoch * config.trainer.max_epochs, config.trainer.max_steps or 10**12)
        steps = {"epoch": epoch, "total": total_steps, "images": train}
    facts = {
        "model": choices["model"],
        "data": choices["data"],
        "task": choices["task"],
        "params": {"total": total, "trainable": trainable, "parts": {k: v for k, v in parts.items() if v}},
        "flops": {
            "forward": forward,
            "multiply_adds": forward // 2,
            "of": "an image" if "image" in shapes else f"{shapes['tokens'][1]} tokens",
        },
        "shapes": shapes,
        "memory_bytes": {"weights": 4 * total, "training": 4 * total * (2 + moments)},
        "steps": steps,
        "published": published_for(choices["model"], choices["data"], weights=config.model.get("weights")),
    }
    return facts, str(net)


def _measure(config: DictConfig, device: str) -> tuple[nn.Module, int, dict[str, list[int]]]:
    """Return the model, the FLOPs of one image or text forward (two a multiply-add), and the shapes on the way."""
    if "image" not in config.task.needs:
        return _measure_text(config, device)
    with torch.device(device), torch.no_grad():
        net = build(config.model).eval()
        image = torch.zeros(1, 3, config.data.image_size, config.data.image_size)
        context = config.model.get("text", config.model).get("context")  # of a tower of its own, or of all of the model
        words = [torch.zeros(1, context, dtype=torch.long)] if context else []
        if isinstance(net, ImageTextEncoder) and isinstance(net, nn.Module):
            net.get_submodule("text").train()  # in use it leaves out padding, which has to look at the tokens
        flops, logits = _count(net, image, *words)
        shapes = {"image": list(image.shape)}
        if hasattr(net, "features"):
            features = net.features(image)
            shapes |= {"tokens": list(features.tokens.shape), "pooled": list(features.pooled.shape)}
    return net, flops, {**shapes, "logits": list(logits.shape)}


def _measure_text(config: DictConfig, device: str) -> tuple[nn.Module, int, dict[str, list[int]]]:
    """Measure a model of text on as many tokens as it takes (64 where it takes any number)."""
    with torch.device(device), torch.no_grad():
        net = build(config.model).eval()
        tokens = torch.zeros(1, config.data.get("max_length") or config.model.get("context") or 64, dtype=torch.long)
        inputs = (tokens, tokens) if isinstance(net, Translator) else (tokens,)
        flops, out = _count(net, *inputs)
    return net, flops, {"tokens": list(tokens.shape), "out": list(out.shape)}


def _count(net: nn.Module, *inputs: torch.Tensor) -> tuple[int, torch.Tensor]:
    """Return the FLOPs of a forward pass, and its output.

    Meanwhile no parameter wants a gradient: PyTorch's counter fails where a module is given a view of one that does.
    """
    trained = [p for p in net.parameters() if p.requires_grad]
    net.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        out = net(*inputs)
    for parameter in trained:
        parameter.requires_grad_()
    return counter.get_total_flops(), out
