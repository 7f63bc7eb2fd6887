"""Heads are swapped, half precision is exact, weights of another architecture are refused with the shapes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tfcli.errors import WeightsError
from tfcli.models.classifier import TorchvisionClassifier
from tfcli.models.resnet import CifarResNet, ResNet
from tfcli.models.vit import ViT
from tfcli.nn.attention import Attention
from tfcli.nn.positions import Learned
from tfcli.weights.load import load_weights

MOBILENET = (
    Path(__file__).parents[2].parent / "shared/data/weights/imagenet_mobilenet_v2/mobilenet_v2_torchvision_fp16.pt"
)


def vit(width: int = 24, depth: int = 2, image_size: int = 16, **options) -> ViT:
    options = {
        "heads": 4,
        "patch_size": 4,
        "num_classes": 5,
        "attn": partial(Attention),
        "pos": partial(Learned),
    } | options
    return ViT(width, depth=depth, image_size=image_size, **options)


def test_our_own_weights_come_back_to_the_last_bit(tmp_path: Path) -> None:
    source, target = vit(), vit()
    save_file(source.state_dict(), tmp_path / "own.safetensors")
    report = load_weights(target, str(tmp_path / "own.safetensors"), num_classes=5)
    assert all(torch.equal(tensor, target.state_dict()[name]) for name, tensor in source.state_dict().items())
    assert not report.notes


def test_head_of_other_classes_stays_new(tmp_path: Path) -> None:
    source, target = CifarResNet(8, num_classes=10), CifarResNet(8, num_classes=3)
    torch.save(source.state_dict(), tmp_path / "x.pt")
    before = target.head.weight.clone()
    report = load_weights(target, str(tmp_path / "x.pt"), num_classes=3)
    assert report.new_head
    assert report.notes == ["head 10 -> 3 classes: new"]
    assert torch.equal(target.head.weight, before)
    assert torch.equal(target.layer3[0].conv2.weight, source.layer3[0].conv2.weight)


def test_half_precision_becomes_float32_exactly(tmp_path: Path) -> None:
    source, target = vit(), vit()
    torch.save({name: tensor.half() for name, tensor in source.state_dict().items()}, tmp_path / "x.pt")
    load_weights(target, str(tmp_path / "x.pt"))
    for name, tensor in target.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, source.state_dict()[name].half().float())


def test_another_width_is_refused_with_the_shapes_side_by_side(tmp_path: Path) -> None:
    torch.save(vit(width=32).state_dict(), tmp_path / "x.pt")
    net = vit()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(net, str(tmp_path / "x.pt"))
    text = str(caught.value)
    assert (
        "30 of 32 tensors differ" in text or "tensors differ. The file is a ViT of width 32, depth 2, patch 4." in text
    )
    assert "model" in text
    assert "(24, 3, 4, 4)" in text
    assert "(32, 3, 4, 4)" in text
    assert "more" in text
    assert len(text.splitlines()) == 8
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_another_family_is_refused_with_the_names(tmp_path: Path) -> None:
    torch.save(ResNet(18, num_classes=5).state_dict(), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="is not for this model"):
        load_weights(vit(), str(tmp_path / "x.pt"))


def test_a_known_size_is_named(tmp_path: Path) -> None:
    torch.save(vit(width=192, depth=12, heads=3, image_size=32, patch_size=16).state_dict(), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="try `model=vit_ti16`"):
        load_weights(vit(), str(tmp_path / "x.pt"))


@pytest.mark.parametrize(("source", "depth"), [(CifarResNet(20, num_classes=3), 20), (ResNet(50, num_classes=3), 50)])
def test_a_known_depth_is_named(tmp_path: Path, source: nn.Module, depth: int) -> None:
    torch.save(source.state_dict(), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=f"The file is a ResNet-{depth}: try `model=resnet{depth}`"):
        load_weights(ResNet(18, num_classes=3), str(tmp_path / "x.pt"))


def test_pooling_that_differs_is_refused(tmp_path: Path) -> None:
    torch.save(vit(pool="mean").state_dict(), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"pool=mean(.|\n)*cls_token"):
        load_weights(vit(), str(tmp_path / "x.pt"))
    torch.save(vit().state_dict(), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="cls_token"):
        load_weights(vit(pool="mean"), str(tmp_path / "x.pt"))


def test_nan_weights_are_refused(tmp_path: Path) -> None:
    state = vit().state_dict()
    state["head.bias"][0] = float("nan")
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"`head\.bias`"):
        load_weights(vit(), str(tmp_path / "x.pt"))


class Foreign(nn.Module):
    """A model of the user's own, in no module of ours."""

    def __init__(self, classes: int):
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, classes)


class Deep(nn.Module):
    """A head of two layers."""

    def __init__(self, classes: int, hidden: int = 4):
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.head = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def test_a_head_of_several_layers_is_swapped_whole(tmp_path: Path) -> None:
    torch.save(Deep(3).state_dict(), tmp_path / "x.pt")
    assert load_weights(Deep(2), str(tmp_path / "x.pt"), num_classes=2).notes == ["head 3 -> 2 classes: new"]
    with pytest.raises(WeightsError, match=r"head\.2\.weight"):
        load_weights(Deep(3, hidden=5), str(tmp_path / "x.pt"))


def test_a_model_without_converter_takes_its_own_names(tmp_path: Path) -> None:
    source, target = Foreign(3), Foreign(2)
    torch.save(source.state_dict(), tmp_path / "x.pt")
    report = load_weights(target, str(tmp_path / "x.pt"), num_classes=2)
    assert torch.equal(target.body.weight, source.body.weight)
    assert report.notes == ["head 3 -> 2 classes: new"]


@pytest.mark.parametrize("classes", [1000, 37])
def test_real_mobilenet_in_half_precision(classes: int) -> None:
    if not MOBILENET.exists():
        pytest.skip(f"the published weights are not here: {MOBILENET}")
    net = TorchvisionClassifier("mobilenet_v2", num_classes=classes)
    report = load_weights(net, str(MOBILENET), num_classes=classes)
    assert report.new_head is (classes == 37)
    assert report.notes == ([] if classes == 1000 else ["head 1000 -> 37 classes: new"])
    stored = torch.load(MOBILENET, weights_only=True)["features.0.0.weight"]
    assert torch.equal(net.body.features[0][0].weight, stored.float())


def test_a_run_of_ours_brings_its_epsilon(tmp_path: Path) -> None:
    source, target = vit(norm_eps=1e-3), vit()
    (tmp_path / "checkpoints").mkdir()
    tensors = {f"net.{name}": tensor for name, tensor in source.state_dict().items()}
    torch.save({"state_dict": tensors, "pytorch-lightning_version": "2.6.6"}, tmp_path / "checkpoints/best.ckpt")
    config = "model: {norm_eps: 1.0e-3}\n"
    (tmp_path / "config.yaml").write_text(config)
    report = load_weights(target, str(tmp_path), num_classes=5)
    assert report.settings == {"norm_eps": 1e-3}
    assert {norm.eps for norm in target.modules() if isinstance(norm, nn.LayerNorm)} == {1e-3}


def test_inception_file_with_auxiliary_heads(tmp_path: Path) -> None:
    import torchvision

    theirs = torchvision.models.googlenet(num_classes=3, aux_logits=True, init_weights=False)
    torch.save(theirs.state_dict(), tmp_path / "x.pt")
    net = TorchvisionClassifier("googlenet", num_classes=3)
    assert load_weights(net, str(tmp_path / "x.pt")).notes == ["auxiliary heads: left out"]


@torch.no_grad()
def test_torchvision_vit_takes_other_sizes(tmp_path: Path) -> None:
    small = torch.randn(1, 50, 768)
    net = TorchvisionClassifier("vit_b_32", num_classes=3, image_size=96)
    state = {name.removeprefix("body."): tensor for name, tensor in net.state_dict().items()}
    torch.save(state | {"encoder.pos_embedding": small}, tmp_path / "x.pt")
    report = load_weights(net, str(tmp_path / "x.pt"), num_classes=3)
    assert report.notes == ["positions 7x7 -> 3x3, as torchvision does: bicubic, align corners"]
    assert torch.equal(net.body.encoder.pos_embedding[0, 0], small[0, 0])


@pytest.mark.parametrize("name", ["densenet121", "mnasnet0_5", "swin_t"])
def test_torchvisions_own_names_old_and_new(tmp_path: Path, name: str) -> None:
    import torchvision

    state = torchvision.models.get_model(name, num_classes=3).state_dict()
    if name == "densenet121":  # the published files still say norm.1 and conv.2
        for key in [key for key in state if "denselayer" in key]:
            old = key.replace(".norm", ".norm.").replace(".conv", ".conv.")
            state[old] = state.pop(key)
    torch.save(dict(state), tmp_path / "x.pt")
    net = TorchvisionClassifier(name, num_classes=3)
    assert load_weights(net, str(tmp_path / "x.pt"), num_classes=3).notes == []
