"""The stem that makes a ViT a hybrid; equality with the published networks is in `tests/parity/test_hybrid.py`."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tfcli.models.vit import ViT
from tfcli.nn.attention import Attention
from tfcli.nn.hybrid import HybridEmbed, StdConv, group_norm
from tfcli.nn.positions import Learned


@settings(max_examples=12, deadline=None)
@given(blocks=st.lists(st.integers(1, 2), max_size=3), cells=st.integers(1, 3), side=st.integers(1, 3))
def test_the_grid_is_the_images_side_over_the_tokens(blocks: list[int], cells: int, side: int) -> None:
    patch_size = cells * 4 * 2 ** max(len(blocks) - 1, 0)
    stem = HybridEmbed(8, image_size=side * patch_size, patch_size=patch_size, blocks=blocks, stem_width=4)
    tokens = stem(torch.randn(2, 3, side * patch_size, side * patch_size))
    assert stem.grid == (side, side)
    assert tokens.shape == (2, side * side, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 8}, r"must be a multiple of 16, .* with stages of \[3, 4, 9\] blocks, but is 8"),
        ({"image_size": 40}, "`model.patch_size` must divide `data.image_size`, but is 16 for an image of 40"),
        ({"blocks": (3, 0, 9)}, r"at least 1, but are 64 and \[3, 0, 9\]"),
        ({"stem_width": 0}, "at least 1, but are 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridEmbed(8, **({"image_size": 32, "patch_size": 16} | changes))


def test_the_scale_and_mean_of_a_kernel_change_nothing() -> None:
    conv, x = StdConv(3, 4, 3), torch.randn(1, 3, 6, 6)
    before = conv(x)
    with torch.no_grad():
        conv.weight.mul_(7.0).add_(torch.randn(4, 1, 1, 1))
    torch.testing.assert_close(conv(x), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("width", "groups"), [(1, 1), (6, 1), (16, 8), (32, 16), (48, 8), (64, 32), (96, 32), (2048, 32)]
)
def test_groups_hold_at_least_two_channels_where_there_are_two(width: int, groups: int) -> None:
    assert group_norm(width).num_groups == groups


def hybrid() -> ViT:
    parts = {"attn": partial(Attention), "pos": partial(Learned)}
    return ViT(16, depth=2, heads=2, image_size=16, patch_size=4, num_classes=3, stem="hybrid", **parts)


def test_a_vit_takes_the_stem_by_name_and_trains_all_of_it() -> None:
    net = hybrid()
    nn.init.normal_(net.head.weight)
    branch = re.compile(r"stages\.\d\.\d\.(conv|norm)\d")
    for step in range(2):
        net.zero_grad()
        logits = net(torch.randn(4, 3, 16, 16))
        logits.square().sum().backward()
        deaf = {name for name, p in net.patch_embed.named_parameters() if not p.grad.any()}
        if step == 0:  # a block starts as its shortcut: of its branch only the last norm is told anything
            assert deaf == {n for n, _ in net.patch_embed.named_parameters() if branch.match(n) and "norm3" not in n}
            torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert logits.shape == (4, 3)
    assert not deaf


def test_the_whole_stem_is_layer_zero() -> None:
    net = hybrid()
    layers = {name: net.layer_of(name) for name, _ in net.named_parameters()}
    assert {layer for name, layer in layers.items() if name.startswith("patch_embed.")} == {0}
    assert "patch_embed.stages.0.0.conv2.weight" in layers
    assert set(layers.values()) == {0, 1, 2, 3}
