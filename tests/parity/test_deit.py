"""Our DeiT equals transformers' and timm's, with their weights taken through our converter from disk."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from parity.test_vit import ATOL, CLASSES, DEPTH, HEADS, PATCH, SIDE, WIDTH, _quietly, images, randomise
from safetensors.torch import save_file
from torch import nn

from tfcli.errors import WeightsError
from tfcli.models.deit import DeiT
from tfcli.models.vit import ViT
from tfcli.nn.attention import Attention
from tfcli.nn.capture import capture
from tfcli.nn.positions import Learned
from tfcli.weights.load import load_weights

pytestmark = pytest.mark.parity

OPTIONS = {"depth": DEPTH, "heads": HEADS, "image_size": SIDE, "patch_size": PATCH, "num_classes": CLASSES}
OPTIONS |= {"attn": partial(Attention), "pos": partial(Learned), "mlp_width": 40}


def ours(**changes) -> DeiT:
    return DeiT(WIDTH, **(OPTIONS | changes)).eval()


def transformers_deit(folder: Path, *, name: str = "DeiTForImageClassificationWithTeacher", eps: float = 1e-3):
    transformers = _quietly("transformers")
    config = transformers.DeiTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=40,
        image_size=SIDE,
        patch_size=PATCH,
        num_labels=CLASSES,
        layer_norm_eps=eps,
    )
    net = randomise(getattr(transformers, name)(config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers.utils.logging.disable_progress_bar()
        net.save_pretrained(folder)
    return net


def timm_deit(file: Path, **changes) -> tuple[nn.Module, str]:
    _quietly("timm")
    from timm.models.deit import VisionTransformerDistilled

    options = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    net = randomise(VisionTransformerDistilled(**options, mlp_ratio=40 / WIDTH, num_classes=CLASSES, **changes))
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, file)
    return net, str(file)


@torch.no_grad()
def test_transformers_gives_equal_logits_of_both_heads_and_equal_hidden_states(tmp_path: Path) -> None:
    theirs, net = transformers_deit(tmp_path), ours()
    report = load_weights(net, str(tmp_path), num_classes=CLASSES)
    expected = theirs(images(), output_hidden_states=True)
    assert torch.allclose(net(images()), expected.logits, atol=ATOL)
    own, taught = net(images(), separate=True)
    assert torch.allclose(own, expected.cls_logits, atol=ATOL)
    assert torch.allclose(taught, expected.distillation_logits, atol=ATOL)
    assert not torch.allclose(own, taught, atol=0.1)
    with capture(net) as trace:
        net(images())
    for layer, hidden in enumerate(expected.hidden_states[1:]):
        assert torch.allclose(trace.outputs[f"stack.blocks.{layer}"], hidden, atol=ATOL)
    assert report.settings == {"heads": HEADS, "activation": "gelu", "norm_eps": 1e-3}
    assert not report.new_head


@torch.no_grad()
def test_timm_gives_equal_logits_of_both_heads(tmp_path: Path) -> None:
    theirs, file = timm_deit(tmp_path / "deit.safetensors")
    net = ours()
    load_weights(net, file, num_classes=CLASSES)
    assert torch.allclose(net(images()), theirs(images()), atol=ATOL)
    theirs.set_distilled_training(True)
    theirs.train()
    for found, expected in zip(net.train()(images(), separate=True), theirs(images()), strict=True):
        assert torch.allclose(found, expected, atol=ATOL)


def test_gradients_equal_timm(tmp_path: Path) -> None:
    theirs, file = timm_deit(tmp_path / "deit.safetensors")
    net = ours()
    load_weights(net, file, num_classes=CLASSES)
    theirs.set_distilled_training(True)
    for found in (net.train()(images(), separate=True), theirs.train()(images())):
        (nn.functional.cross_entropy(found[0], torch.tensor([1, 3])) + found[1].square().mean()).backward()
    pairs = {"cls_token": "cls_token", "dist_token": "dist_token", "head_dist.weight": "head_dist.weight"}
    pairs |= {"stack.positions.0.table": "pos_embed", "stack.blocks.0.attention.qkv.weight": "blocks.0.attn.qkv.weight"}
    mine, others = dict(net.named_parameters()), dict(theirs.named_parameters())
    for name, reference in pairs.items():
        expected = others[reference].grad
        assert expected.abs().max() > 1e-4
        assert torch.allclose(mine[name].grad.reshape(expected.shape), expected, atol=ATOL), name


@torch.no_grad()
def test_a_class_without_a_second_head_leaves_that_head_new(tmp_path: Path) -> None:
    theirs = transformers_deit(tmp_path, name="DeiTForImageClassification")
    net = ours()
    report = load_weights(net, str(tmp_path), num_classes=CLASSES)
    assert torch.allclose(net(images(), separate=True)[0], theirs(images()).logits, atol=ATOL)
    assert report.new_head
    assert f"head_dist of {CLASSES} classes: new, since the checkpoint has none" in report.notes


@torch.no_grad()
@pytest.mark.parametrize("side", [8, 24])
def test_positions_are_resized_behind_two_tokens(tmp_path: Path, side: int) -> None:
    theirs = transformers_deit(tmp_path)
    net = ours(image_size=side)
    report = load_weights(net, str(tmp_path), num_classes=CLASSES)
    expected = theirs(images(side), interpolate_pos_encoding=True).logits
    assert torch.allclose(net(images(side)), expected, atol=ATOL)
    assert f"positions 4x4 -> {side // 4}x{side // 4}, as transformers does: bicubic" in report.notes


@torch.no_grad()
def test_timm_without_positions_for_its_tokens(tmp_path: Path) -> None:
    theirs, file = timm_deit(tmp_path / "deit.safetensors", no_embed_class=True)
    with torch.no_grad():  # timm makes the table as long as ever; its own later files have the patches alone
        theirs.pos_embed = nn.Parameter(theirs.pos_embed[:, 2:])
    save_file({name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}, file)
    net = ours()
    load_weights(net, file, num_classes=CLASSES)
    assert torch.allclose(net(images()), theirs(images()), atol=ATOL)


def test_both_heads_are_replaced_for_other_classes(tmp_path: Path) -> None:
    transformers_deit(tmp_path)
    net = ours(num_classes=7)
    fresh = [head.weight.clone() for head in (net.head, net.head_dist)]
    report = load_weights(net, str(tmp_path), num_classes=7)
    assert report.new_head
    assert report.notes[-2:] == [f"head {CLASSES} -> 7 classes: new", f"head_dist {CLASSES} -> 7 classes: new"]
    assert torch.equal(net.head.weight, fresh[0])
    assert torch.equal(net.head_dist.weight, fresh[1])


def test_a_file_of_the_other_kind_is_refused_by_name(tmp_path: Path) -> None:
    transformers_deit(tmp_path / "distilled")
    with pytest.raises(WeightsError, match="is a distilled DeiT, with two heads: take `model=deit`"):
        load_weights(ViT(WIDTH, **OPTIONS), str(tmp_path / "distilled"))
    torch.save(ViT(WIDTH, **OPTIONS).state_dict(), tmp_path / "plain.pth")
    with pytest.raises(WeightsError, match="The file is a ViT of width 24"):
        load_weights(ours(), str(tmp_path / "plain.pth"))


def test_a_deit_saves_and_comes_back(tmp_path: Path) -> None:
    net = randomise(ours())
    torch.save(net.state_dict(), tmp_path / "deit.pth")
    other = ours()
    load_weights(other, str(tmp_path / "deit.pth"), num_classes=CLASSES)
    for found, expected in zip(other(images(), separate=True), net(images(), separate=True), strict=True):
        assert torch.equal(found, expected)


def test_published_parameter_count_at_384_pixels() -> None:
    with torch.device("meta"):
        net = DeiT(768, **(OPTIONS | {"depth": 12, "heads": 12, "image_size": 384, "patch_size": 16, "mlp_width": None,
                                      "num_classes": 1000}))  # fmt: skip
    assert sum(parameter.numel() for parameter in net.parameters()) == 87_630_032
