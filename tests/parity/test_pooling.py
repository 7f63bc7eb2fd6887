"""Our attention pooling equals timm's, the head of big_vision's and SigLIP's models."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from parity.test_vit import ATOL, _quietly, randomise
from torch import Tensor, nn

from tfcli.nn.pooling import AttentionPool

pytestmark = pytest.mark.parity

WIDTH, HEADS, HIDDEN = 24, 4, 36
NAMES = {"query": "latent", "out": "proj"}


def pair(eps: float = 1e-3) -> tuple[AttentionPool, Any]:
    layers = _quietly("timm").layers
    theirs = layers.AttentionPoolLatent(
        WIDTH, num_heads=HEADS, mlp_ratio=HIDDEN / WIDTH, norm_layer=partial(nn.LayerNorm, eps=eps)
    )
    randomise(theirs)
    net = AttentionPool(WIDTH, heads=HEADS, mlp_width=HIDDEN, norm_eps=eps).eval()
    net.load_state_dict({name: theirs.state_dict()[to_timm(name)] for name in net.state_dict()})
    return net, theirs


def to_timm(name: str) -> str:
    part, dot, rest = name.partition(".")
    return NAMES.get(part, part) + dot + rest


def tokens() -> Tensor:
    return torch.randn(3, 10, WIDTH, generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def test_equals_timm() -> None:
    net, theirs = pair()
    assert {to_timm(name) for name in net.state_dict()} == set(theirs.state_dict())
    torch.testing.assert_close(net(tokens()), theirs(tokens()), atol=ATOL, rtol=ATOL)


def test_gradients_equal_timm() -> None:
    net, theirs = pair()
    for model in (net, theirs):
        model(tokens()).square().sum().backward()
    others = dict(theirs.named_parameters())
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, others[to_timm(name)].grad, atol=1e-4, rtol=1e-4, msg=name)
