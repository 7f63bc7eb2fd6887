"""Residual networks and torchvision's classifiers behind the protocols."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
import yaml

from tfcli.models.classifier import TorchvisionClassifier
from tfcli.models.protocols import ImageEncoder
from tfcli.models.resnet import CifarResNet, ResNet

NAMES = torchvision.models.list_models(module=torchvision.models)
CONF = Path(__file__).parents[2] / "conf" / "model"


def test_the_config_lists_what_torchvision_has() -> None:
    assert yaml.safe_load((CONF / "torchvision.yaml").read_text())["model"]["names"] == NAMES


def architecture(name: str) -> tuple[str, bool]:
    return torchvision.models.get_model_builder(name).__module__, "_v2_" in name


def size(name: str) -> int:
    return torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]


SMALLEST = {architecture(name): name for name in sorted(NAMES, key=size, reverse=True)}.values()
"""One classifier of each architecture; its other sizes are slow tests."""


@pytest.mark.parametrize(
    "name",
    [
        name if name in SMALLEST else pytest.param(name, marks=pytest.mark.slow)
        for name in NAMES
        if not name.startswith("regnet")
    ],
)
def test_every_classifier_gives_logits_and_features(name: str) -> None:
    side = 299 if name == "inception_v3" else 224
    with torch.device("meta"), torch.no_grad():
        net = TorchvisionClassifier(name, num_classes=7, image_size=side)
        image = torch.zeros(2, 3, side, side)
        assert net(image).shape == (2, 7)  # in training mode: no tuple of auxiliary logits
        features = net.eval().features(image)
    assert isinstance(net, ImageEncoder)
    assert net.head.weight.shape[:2] == (7, features.pooled.shape[1])
    assert features.tokens.ndim == 3
    assert features.tokens.shape[1] > 1
    layers = [net.layer_of(key) for key, _ in net.named_parameters()]
    assert (min(layers), max(layers)) == (0, net.layers + 1)
    assert 4 <= net.layers <= 40


@torch.no_grad()
def test_regnet_too() -> None:
    net = TorchvisionClassifier("regnet_y_400mf", num_classes=7).eval()
    features = net.features(torch.zeros(1, 3, 64, 64))
    assert torch.equal(net.head(features.pooled), net(torch.zeros(1, 3, 64, 64)))
    assert features.tokens.shape == (1, 4, 440)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "vgg11"])
def test_the_head_reads_the_pooled_features(name: str) -> None:
    net = TorchvisionClassifier(name, num_classes=7).eval()
    image = torch.randn(2, 3, 64, 64)
    pooled = net.features(image).pooled
    if name == "squeezenet1_1":
        assert pooled.shape == (2, 512)
    else:
        assert torch.allclose(net.head(pooled), net(image), atol=1e-6)


def test_wrong_names_and_sizes() -> None:
    with pytest.raises(ValueError, match=r"Did you mean `mobilenet_v2`\?"):
        TorchvisionClassifier("mobilnet_v2", num_classes=2)
    with pytest.raises(ValueError, match="multiple of 16"):
        TorchvisionClassifier("vit_b_16", num_classes=2, image_size=100)
    with pytest.raises(ValueError, match=r"6 n \+ 2"):
        CifarResNet(21, num_classes=2)


@torch.no_grad()
def test_residual_networks_on_small_images() -> None:
    image = torch.randn(2, 3, 32, 32)
    net = ResNet(18, num_classes=5, stem="cifar").eval()
    features = net.features(image)
    assert features.tokens.shape == (2, 16, 512)
    assert torch.allclose(features.tokens.mean(1), features.pooled, atol=1e-6)
    assert torch.equal(net.head(features.pooled), net(image))
    assert CifarResNet(20, num_classes=5).features(image).tokens.shape == (2, 64, 64)


def test_layers_count_blocks() -> None:
    net = ResNet(34, num_classes=5)
    assert net.layers == 16
    seen = {name: net.layer_of(name) for name, _ in net.named_parameters()}
    assert (seen["conv1.weight"], seen["layer1.0.conv1.weight"], seen["layer2.0.conv1.weight"]) == (0, 1, 4)
    assert (seen["layer4.2.bn2.bias"], seen["head.bias"]) == (16, 17)
