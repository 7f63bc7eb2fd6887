"""Our ResNet equals torchvision's, and the published CIFAR weights score what their author says."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from tfcli.models.resnet import CifarResNet, ResNet
from tfcli.weights.load import load_weights

pytestmark = pytest.mark.parity


def scrambled(net: nn.Module) -> nn.Module:
    """Random norms and running statistics, so that a swap of two of them shows."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.0)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(std=0.1)
    return net.eval()


@torch.no_grad()
@pytest.mark.parametrize("depth", [18, 34, 50])
def test_equals_torchvision(tmp_path: Path, depth: int) -> None:
    torch.manual_seed(depth)
    theirs = scrambled(torchvision.models.get_model(f"resnet{depth}", weights=None, num_classes=7))
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    net = ResNet(depth, num_classes=7).eval()
    report = load_weights(net, str(tmp_path / "resnet.pth"), num_classes=7)
    image = torch.randn(2, 3, 64, 64)
    expected = theirs(image)
    assert torch.allclose(net(image), expected, atol=1e-5, rtol=1e-5)
    assert not report.notes


@pytest.mark.parametrize(
    ("depth", "classes", "expected"), [(34, 1000, 21_797_672), (34, 37, 21_303_653), (50, 1000, 25_557_032)]
)
def test_published_parameter_counts(depth: int, classes: int, expected: int) -> None:
    with torch.device("meta"):
        net = ResNet(depth, num_classes=classes)
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_cifar_form_has_the_papers_size(depth: int, millions: float) -> None:
    """He et al. 2016, table 6."""
    with torch.device("meta"):
        net = CifarResNet(depth, num_classes=10)
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 2) == pytest.approx(
        millions, abs=0.035
    )


@torch.no_grad()
@pytest.mark.parametrize(
    ("depth", "file", "seen"), [(20, "resnet20-12fca82f.th", 0.917), (56, "resnet56-4bfd9763.th", 0.934)]
)
def test_published_cifar_weights_score_on_real_images(depth: int, file: str, seen: float, real_data: Path) -> None:
    weights = real_data / "weights" / "cifar10_resnet" / file
    batch = real_data / "cifar10" / "cifar-10-batches-py" / "test_batch"
    content = pickle.loads(batch.read_bytes(), encoding="latin1")
    image = torch.from_numpy(content["data"].copy()).view(-1, 3, 32, 32) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    net = CifarResNet(depth, num_classes=10).eval()
    report = load_weights(net, str(weights), num_classes=10)
    assert not report.new_head
    logits = net((image - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    accuracy = (logits.argmax(1) == torch.tensor(content["labels"])).float().mean().item()
    assert accuracy == pytest.approx(seen, abs=0.002)
