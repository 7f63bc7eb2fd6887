"""Our hybrid ViT equals timm's, with its weights taken through our converter from disk."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.test_vit import ATOL, _quietly, images, randomise, stored
from torch import nn

from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.errors import WeightsError
from tfcli.models.vit import ViT
from tfcli.nn.attention import Attention
from tfcli.nn.hybrid import HybridEmbed
from tfcli.nn.positions import Learned
from tfcli.weights.hub import public
from tfcli.weights.load import load_weights

pytestmark = pytest.mark.parity

WIDTH, DEPTH, HEADS, CLASSES = 24, 2, 4, 5
FORMS: dict[str, tuple[tuple[int, ...], int, int]] = {
    "root, patches of 2x2 cells": ((), 8, 24),
    "two stages, cells": ((2, 1), 8, 24),
    "three stages, patches of 2x2 cells": ((1, 1, 1), 32, 64),
}
"""Blocks, side of a token and of the image in pixels."""


def ours(blocks: tuple[int, ...], patch: int, side: int) -> ViT:
    return ViT(
        WIDTH,
        depth=DEPTH,
        heads=HEADS,
        image_size=side,
        patch_size=patch,
        num_classes=CLASSES,
        stem=partial(HybridEmbed, blocks=blocks),
        attn=partial(Attention),
        pos=partial(Learned),
    ).eval()


def timm_hybrid(blocks: tuple[int, ...], patch: int, side: int) -> Any:
    """As timm's own entry points build theirs, with the ResNet at its real width."""
    _quietly("timm")
    from timm.layers import HybridEmbed as TimmEmbed
    from timm.models import vision_transformer_hybrid as hybrid

    backbone = hybrid._resnetv2(blocks)
    net = hybrid.VisionTransformer(
        img_size=side,
        patch_size=patch // (4 * 2 ** max(len(blocks) - 1, 0)),
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=CLASSES,
        embed_layer=partial(TimmEmbed, backbone=backbone),
    )
    return randomise(net)


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_equals_timm(tmp_path: Path, form: str, suffix: str) -> None:
    blocks, patch, side = FORMS[form]
    theirs, net = timm_hybrid(blocks, patch, side), ours(blocks, patch, side)
    report = load_weights(net, stored(theirs, tmp_path / f"timm{suffix}"), num_classes=CLASSES)
    image = images(side)
    map_theirs = theirs.patch_embed.backbone(image)
    stem = net.patch_embed
    torch.testing.assert_close(stem.stages(stem.root(image)), map_theirs, atol=ATOL, rtol=ATOL)
    torch.testing.assert_close(stem(image), theirs.patch_embed(image), atol=ATOL, rtol=ATOL)
    torch.testing.assert_close(net(image), theirs(image), atol=ATOL, rtol=ATOL)
    assert report.notes == []
    assert not report.new_head


def test_gradients_equal_timm(tmp_path: Path) -> None:
    blocks, patch, side = FORMS["two stages, cells"]
    theirs, net = timm_hybrid(blocks, patch, side), ours(blocks, patch, side)
    load_weights(net, stored(theirs, tmp_path / "timm.safetensors"), num_classes=CLASSES)
    for model in (net, theirs):
        nn.functional.cross_entropy(model(images(side)), torch.tensor([1, 3])).backward()
    stages = "patch_embed.backbone.stages"
    pairs = {
        "patch_embed.root.conv.weight": "patch_embed.backbone.stem.conv.weight",
        "patch_embed.root.norm.bias": "patch_embed.backbone.stem.norm.bias",
        "patch_embed.stages.0.1.conv2.weight": f"{stages}.0.blocks.1.conv2.weight",
        "patch_embed.stages.1.0.norm3.weight": f"{stages}.1.blocks.0.norm3.weight",
        "patch_embed.stages.1.0.downsample.conv.weight": f"{stages}.1.blocks.0.downsample.conv.weight",
        "patch_embed.proj.weight": "patch_embed.proj.weight",
    }
    mine, others = dict(net.named_parameters()), dict(theirs.named_parameters())
    for name, reference in pairs.items():
        torch.testing.assert_close(mine[name].grad, others[reference].grad, atol=ATOL, rtol=1e-4, msg=name)


@torch.no_grad()
def test_positions_are_resized_for_another_image_size(tmp_path: Path) -> None:
    theirs, net = timm_hybrid((1,), 4, 16), ours((1,), 4, 24)
    report = load_weights(net, stored(theirs, tmp_path / "timm.safetensors"), num_classes=CLASSES)
    assert report.notes == ["positions 4x4 -> 6x6, as timm does: bicubic, antialias"]
    larger, state = timm_hybrid((1,), 4, 24), theirs.state_dict()
    resample = _quietly("timm").layers.resample_abs_pos_embed
    state["pos_embed"] = resample(state["pos_embed"], [6, 6], num_prefix_tokens=1)
    larger.load_state_dict(state)
    torch.testing.assert_close(net(images(24)), larger(images(24)), atol=ATOL, rtol=ATOL)


def test_a_hybrid_file_for_another_model_is_named(tmp_path: Path) -> None:
    file = stored(timm_hybrid((1, 2), 8, 16), tmp_path / "timm.safetensors")
    with pytest.raises(WeightsError, match=r"width 24, depth 2, on a ResNet of blocks \[1, 2\]"):
        load_weights(ours((1,), 4, 16), file, num_classes=CLASSES)
    with torch.device("meta"):
        ti = build(compose("train", ["model=vit_r_ti16", "data=pets"]).config.model)
    state = {name: torch.zeros(tensor.shape) for name, tensor in ti.state_dict().items()}
    torch.save(state, tmp_path / "ti.pt")
    with pytest.raises(WeightsError, match="try `model=vit_r_ti16`"):
        load_weights(ours((), 8, 16), str(tmp_path / "ti.pt"))


COUNTS = {
    "vit_tiny_r_s16_p8_224": ("vit_r_ti16", 224, 6_337_704),
    "vit_small_r26_s32_224": ("vit_r26_s32", 224, 36_431_912),
    "vit_large_r50_s32_224": ("vit_r50_l32", 224, 328_994_856),
    "vit_base_r50_s16_384": ("vit_r50_b16", 384, 98_950_952),
}


@pytest.mark.parametrize("name", COUNTS)
def test_published_sizes_have_timms_parameters(name: str) -> None:
    size, side, expected = COUNTS[name]
    timm = _quietly("timm")
    config = compose("train", [f"model={size}", "data=pets", f"data.image_size={side}"]).config.model
    config.num_classes = 1000
    with torch.device("meta"):
        net, theirs = build(config), timm.create_model(name)
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in theirs.parameters()) == expected
    shapes = sorted(tuple(p.shape) for p in net.parameters())
    others = sorted(tuple(p.shape[1:] if n == "pos_embed" else p.shape) for n, p in theirs.named_parameters())
    assert shapes == sorted(others)


def test_the_public_hybrids_name_models_of_their_size() -> None:
    rows = {row.name: row for row in public() if "_r50_" in row.name or "_r26_" in row.name or "_r_s" in row.name}
    assert len(rows) == 4
    for row in rows.values():
        config = compose("train", ["data=pets", *f"model={row.model}".split()]).config.model
        config.num_classes = 1000
        with torch.device("meta"):
            net = build(config)
        assert row.bytes == 4 * sum(p.numel() for p in net.parameters()), row.name
