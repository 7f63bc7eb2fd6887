"""ResNets of chance, saved by torchvision, timm and transformers, give the same logits here, or are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from parity.folders import difference, opened, photographs, quietly, saved
from parity.test_vit import randomise

from tfcli.errors import WeightsError
from tfcli.models.resnet import SIZES, CifarResNet

pytestmark = pytest.mark.parity
CLASSES, ATOL = 5, 1e-4


@torch.no_grad()
@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("library", ["torchvision", "timm", "transformers"])
def test_a_folder_says_its_depth(library: str, depth: int, tmp_path: Path) -> None:
    kind, counts = SIZES[depth]
    if library == "torchvision":
        net = randomise(quietly("torchvision").models.get_model(f"resnet{depth}", num_classes=CLASSES))
        torch.save(net.state_dict(), tmp_path / "model.pth")
    elif library == "timm":
        net = randomise(quietly("timm").create_model(f"resnet{depth}", num_classes=CLASSES))
        from timm.models._hub import save_for_hf

        save_for_hf(net, tmp_path, safe_serialization=True)
    else:
        transformers = quietly("transformers")
        widths = [64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048]
        config = transformers.ResNetConfig(
            depths=list(counts), layer_type=kind, hidden_sizes=widths, num_labels=CLASSES
        )
        net = randomise(transformers.ResNetForImageClassification(config))
        saved(net, tmp_path)
    ours, _, report = opened(tmp_path, model="resnet", classes=CLASSES)
    found = net(photographs(64))
    expected = found if isinstance(found, torch.Tensor) else found.logits
    assert not report.new_head
    assert difference(ours(photographs(64)), expected) <= ATOL * float(expected.abs().max().clamp(min=1))


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("resnet18d", "a stem of several convolutions"),
        ("seresnet18", "squeeze-and-excitation"),
        ("resnet26", "stages of 2, 2, 2, 2 bottleneck blocks"),
        ("resnext50_32x4d", "resnext50_32x4d of timm"),
        ("wide_resnet50_2", "wide_resnet50_2 of timm"),
        ("resnetblur18", "resnetblur18 of timm"),
    ],
)
def test_what_ours_has_not_is_named(name: str, feature: str, tmp_path: Path) -> None:
    timm = quietly("timm")
    from timm.models._hub import save_for_hf

    try:
        net = timm.create_model(name, num_classes=CLASSES)
    except RuntimeError:
        pytest.skip(f"this timm has no {name}")
    save_for_hf(net, tmp_path, safe_serialization=True)
    with pytest.raises(WeightsError, match=rf"uses .*{feature}.*, which tfcli's ResNet does not have"):
        opened(tmp_path, model="resnet", classes=CLASSES)


def test_a_typed_size_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(CifarResNet(8, num_classes=CLASSES).state_dict(), tmp_path / "model.pth")
    assert len(opened(tmp_path, model="resnet_cifar")[0].layer3) == 1
    with pytest.raises(WeightsError, match=r"`model\.depth=20` was typed, but the weights in `.*` are made for 8"):
        opened(tmp_path, "model.depth=20", model="resnet_cifar")
    with pytest.raises(WeightsError, match="The file is a ResNet-8: try `model=resnet_cifar`"):
        opened(tmp_path, model="resnet")
