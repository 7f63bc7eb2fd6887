"""Optimizers over named parameters: what decays, and how the learning rate falls with depth."""

from __future__ import annotations

from typing import cast

import pytorch_lightning as pl
import torch
from torch import nn

from tfcli.bounds import NotNegative, Positive, Rate, Rates
from tfcli.models.protocols import Classifier


def param_groups(
    net: nn.Module, *, lr: float, weight_decay: float, layer_decay: float, head_scale: float
) -> list[dict]:
    """Return the parameters in groups of equal learning rate and weight decay.

    Vectors and scalars (norms, biases) do not decay, nor what any part of the net names in `undecayed`: position tables
    and special tokens. With `layer_decay` d, layer i of L has the rate lr * d^(L + 1 - i): the head all of it, the stem
    the least (Clark et al. 2020; Bao et al. 2022).

    Args:
        net: a model; for `layer_decay` and `head_scale` it says which layer a parameter is in (`layers`, `layer_of`).
        lr: learning rate.
        weight_decay: of matrices and convolutions.
        layer_decay: 1 for equal rates.
        head_scale: rate of the head relative to `lr`.

    Raises:
        ValueError: different rates are asked of a model that does not number its layers.
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
    weight_decay: NotNegative,
    betas: Rates = (0.9, 0.999),
    eps: Positive = 1e-8,
    layer_decay: Positive = 1.0,
    head_scale: NotNegative = 1.0,
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), fused: one pass over the parameters."""
    groups = param_groups(net, lr=lr, weight_decay=weight_decay, layer_decay=layer_decay, head_scale=head_scale)
    beta1, beta2 = betas
    return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2), eps=eps, fused=True)


def sgd(
    net: nn.Module,
    *,
    lr: Positive,
    weight_decay: NotNegative,
    momentum: Rate = 0.9,
    nesterov: bool = False,
    layer_decay: Positive = 1.0,
    head_scale: NotNegative = 1.0,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum, fused."""
    groups = param_groups(net, lr=lr, weight_decay=weight_decay, layer_decay=layer_decay, head_scale=head_scale)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=True)


def clip_gradients(task: pl.LightningModule, limit: float | None) -> None:
    """Scale the gradients down to a joint norm of at most `limit`.

    In place of Lightning's own, which refuses fused optimizers under autocast although bf16 needs no unscaling.
    """
    if not limit:
        return
    sharded = getattr(task.trainer.model, "clip_grad_norm_", None)  # FSDP: the norm spans the ranks
    if sharded is not None:
        sharded(limit)
    else:
        torch.nn.utils.clip_grad_norm_(task.parameters(), limit)
