"""What a ViT's checkpoint says of its model: every architecture of timm, and what is said where nothing is stated."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.folders import opened, quietly

from tfcli.errors import WeightsError
from tfcli.weights import deit, vit
from tfcli.weights.files import Checkpoint
from tfcli.weights.names import ACTIVATIONS

ACTS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "SiLU": "swiglu"}
FEW = ("vit_small_patch16_224", "vit_base_patch32_clip_quickgelu_224", "vit_so400m_patch14_siglip_gap_224")
FEW += ("vit_base_patch14_reg4_dinov2", "vit_small_r26_s32_224", "deit_tiny_distilled_patch16_224", "test_vit4")
REFUSED = {
    "vit_base_patch16_rpn_224": "a norm after each branch",
    "vit_small_patch16_18x2_224": "attention and MLP side by side",
    "vit_base_patch16_rope_224": "rotary positions",
    "beit_base_patch16_224": "relative position biases",
    "vit_dwee_patch16_reg1_gap_256": "differential attention",
    "vit_intern300m_patch14_448": "no norm after its last block",
}


def compared(name: str) -> str:
    """Compare what we read from a name and shapes with what timm builds; return why it is refused, or nothing."""
    timm = quietly("timm")
    with torch.device("meta"):
        net: Any = timm.create_model(name)
    config = {"architecture": name, "global_pool": getattr(net, "global_pool", None)}
    config["pretrained_cfg"] = {"input_size": list(net.pretrained_cfg["input_size"])}
    reads = deit.blueprint if "distilled" in name else vit.blueprint
    try:
        found = reads(Checkpoint(Path("x"), dict(net.state_dict()), config))
    except WeightsError as error:
        return str(error)
    assert found is not None
    model, data, notes = found
    assert type(net).__name__.startswith("VisionTransformer"), name
    block = net.blocks[0]
    assert type(block).__name__ == "Block", name
    eps = {part.eps for part in net.modules() if type(part).__name__ in ("LayerNorm", "RmsNorm")}
    assert model["heads"] == block.attn.num_heads, name
    assert {model["norm_eps"]} == eps, name
    assert model["activation"] == ACTS[type(block.mlp.act).__name__], name
    assert model["depth"] == len(net.blocks)
    special = model.get("registers", 1) + (model.get("pool", "class") == "class")
    assert special == net.num_prefix_tokens, name
    side = net.patch_embed.img_size[0]
    assert data["image_size"] == side - side % model["patch_size"], name
    assert bool(notes) == bool(side % model["patch_size"])
    return ""


@pytest.mark.parametrize("name", FEW)
def test_an_architecture_of_timm_says_what_no_tensor_does(name: str) -> None:
    assert not compared(name)


@pytest.mark.parametrize("name", REFUSED)
def test_a_feature_that_ours_has_not_is_named(name: str) -> None:
    assert REFUSED[name] in compared(name)


@pytest.mark.slow
def test_every_vit_of_timm_is_read_as_it_is_or_refused_by_name() -> None:
    kinds = ("vit_", "deit", "flexivit", "test_vit")
    every = [name for name in quietly("timm").list_models() if name.startswith(kinds)]
    names = {re.sub(r"_\d+$", "", name): name for name in every}.values()  # one size of image of each
    refused = [reason for name in names if (reason := compared(name))]
    assert all("which tfcli's" in reason for reason in refused)
    assert len(names) > 2 * len(refused)


def test_a_bare_file_says_what_was_assumed(tmp_path: Path) -> None:
    net = quietly("timm").models.VisionTransformer(img_size=8, patch_size=4, embed_dim=128, depth=1, num_heads=4)
    torch.save(net.state_dict(), tmp_path / "bare.pth")
    ours, said, _ = opened(tmp_path / "bare.pth", model="vit")
    assert ours.stack.blocks[0].attention.heads == 2
    line = "not stated by the file, so taken as published models of timm have it: "
    assert line + "`model.heads` (2 heads of 64 channels), `model.activation` (gelu), `model.norm_eps` (1e-06)" in said
    ours, said, _ = opened(tmp_path / "bare.pth", "model.heads=4", "model.norm_eps=0.001", model="vit")
    assert ours.stack.blocks[0].attention.heads == 4
    assert ours.stack.norm.eps == 0.001
    assert "`model.heads` stays 4, as it was typed; the weights were trained with 2" in said


def test_what_is_typed_against_the_tensors_is_refused_by_name(tmp_path: Path) -> None:
    net = quietly("timm").models.VisionTransformer(img_size=8, patch_size=4, embed_dim=64, depth=1, num_heads=1)
    torch.save(net.state_dict(), tmp_path / "bare.pth")
    for typed, value in {"model.width=96": 64, "model.pool=mean": "class", "data.patch_size=8": 4}.items():
        key = typed.partition("=")[0]
        with pytest.raises(WeightsError, match=rf"`{key}=\w+` was typed, but .* are made for {value}: leave it out"):
            opened(tmp_path / "bare.pth", typed, model="vit")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "beit"}, "holds weights of beit"),
        ({"hidden_act": "mish"}, "the activation 'mish'"),
        ({"image_size": [8, 16]}, "images of 8 x 16 px"),
    ],
)
def test_a_config_that_ours_cannot_follow_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    transformers = quietly("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    net = transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=8, patch_size=4))
    net.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(WeightsError, match=words):
        opened(tmp_path, model="vit")


def test_every_activation_is_one_of_ours() -> None:
    from tfcli.nn.blocks import ACTIVATIONS as OURS

    assert set(ACTIVATIONS.values()) <= set(OURS)
