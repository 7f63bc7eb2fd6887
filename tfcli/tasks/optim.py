"""Optimizers with parameter groups: weight decay by parameter and layer-wise learning rate decay."""

from __future__ import annotations

from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import nn

from tfcli.bounds import NotNegative, Positive, Rate, Rates
from tfcli.models.protocols import Classifier


def param_groups(
    net: nn.Module,
    *,
    lr: float,
    weight_decay: NotNegative,
    layer_decay: Positive = 1.0,
    head_scale: NotNegative = 1.0,
) -> list[dict]:
    """Return the parameters in groups of equal learning rate and weight decay.

    Vectors and scalars (norms, biases) have no weight decay, nor have the parameters that a part of the net lists in
    `undecayed` (position tables, special tokens). With `layer_decay` d, layer i of L has the learning rate
    lr * d^(L + 1 - i): the largest for the head, the smallest for the stem (Clark et al. 2020; Bao et al. 2022).

    Args:
        net: a model; for `layer_decay` and `head_scale` it needs `layers` and `layer_of`.
        lr: learning rate.
        weight_decay: weight decay of matrices and convolutions.
        layer_decay: factor on the learning rate for each layer below the head; 1: equal learning rates.
        head_scale: learning rate of the head relative to `lr`.

    Raises:
        ValueError: the learning rates differ, but the model does not number its layers.
    """
    numbered = cast(Classifier, net) if hasattr(net, "layer_of") else None
    if numbered is None and (layer_decay != 1 or head_scale != 1):
        raise ValueError(
            f"`optim.layer_decay` and `optim.head_scale` need a model that numbers its layers; "
            f"{type(net).__name__} does not."
        )
    undecayed = {id(part.get_parameter(name)) for part in net.modules() for name in getattr(part, "undecayed", ())}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = 1.0
        if numbered is not None:
            above = numbered.layers + 1 - numbered.layer_of(name)
            scale = layer_decay**above * (head_scale if above == 0 else 1.0)
        decays = parameter.ndim > 1 and id(parameter) not in undecayed
        groups.setdefault((lr * scale, weight_decay if decays else 0.0), []).append(parameter)
    return [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]


def adamw(
    net: nn.Module,
    *,
    lr: Positive,
    betas: Rates = (0.9, 0.999),
    eps: Positive = 1e-8,
    **groups: Any,
) -> torch.optim.Optimizer:
    """Build a fused AdamW optimizer (Loshchilov & Hutter 2019); `groups` are arguments of `param_groups`."""
    beta1, beta2 = betas
    return torch.optim.AdamW(param_groups(net, lr=lr, **groups), lr=lr, betas=(beta1, beta2), eps=eps, fused=True)


def sgd(
    net: nn.Module, *, lr: Positive, momentum: Rate = 0.9, nesterov: bool = False, **groups: Any
) -> torch.optim.Optimizer:
    """Build fused stochastic gradient descent with momentum; `groups` are arguments of `param_groups`."""
    parts = param_groups(net, lr=lr, **groups)
    return torch.optim.SGD(parts, lr=lr, momentum=momentum, nesterov=nesterov, fused=True)


def clip_gradients(task: pl.LightningModule, parameters: list[nn.Parameter], limit: float | None) -> None:
    """Scale the gradients of a task's parameters down to a joint norm of at most `limit`.

    Lightning's own clipping refuses fused optimizers under autocast, although bf16 needs no unscaling.
    """
    if not limit:
        return
    sharded = getattr(task.trainer.model, "clip_grad_norm_", None)  # FSDP: the norm spans the ranks
    if sharded is not None:
        sharded(limit)
    else:
        # `clip_grad_norm_` without its last step where that multiplies by 1, if to look does not make a GPU wait.
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if norm.device.type != "cpu" or not limit / (norm.item() + 1e-6) >= 1:
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
