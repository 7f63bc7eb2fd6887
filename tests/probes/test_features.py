"""One pass: layers, pooling, several devices, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tfcli.data.images.transforms import normalise
from tfcli.errors import ConfigError, DataError
from tfcli.models.pixels import Pixels
from tfcli.models.resnet import CifarResNet
from tfcli.models.vit import ViT
from tfcli.nn.attention import Attention
from tfcli.nn.capture import capture
from tfcli.nn.positions import Learned
from tfcli.probes import features as feat

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def vit() -> ViT:
    torch.manual_seed(0)
    net = ViT(24, depth=3, heads=2, image_size=16, patch_size=4, num_classes=5, attn=Attention, pos=Learned)
    return net.eval()


def batches(count: int, size: int = 16, batch: int = 4):
    image = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for i in range(0, count, batch):
        part = image[i : i + batch]
        yield {"image": part, "label": torch.arange(i, i + len(part)), "index": torch.arange(i, i + len(part))}


def run(net: nn.Module, *, devices: int = 1, layer: str | None = None, pool: str = "head", count: int = 10):
    places = [torch.device("cpu")] * devices
    nets = feat.replicas(net, places, torch.float32)
    encoders = [feat.encoder(n, layer=layer, pool=pool) for n in nets]
    parts = list(feat.extract(encoders, places, batches(count), ready=ready, dtype=torch.float32, where="d, train"))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def ready(batch: dict) -> dict:
    return batch | {"image": normalise(batch["image"], MEAN, STD)}


def images(count: int = 10) -> torch.Tensor:
    raw = torch.cat([b["image"] for b in batches(count)]).float() / 255
    return (raw - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def test_features_are_what_the_head_reads(vit: ViT):
    with torch.no_grad():
        expected = vit.features(images()).pooled
    found = run(vit)
    assert torch.allclose(found["features"], expected, atol=1e-5)
    assert found["label"].tolist() == list(range(10))


@pytest.mark.parametrize(("pool", "tokens"), [("class", slice(0, 1)), ("mean", slice(1, None))])
def test_a_layer_is_that_modules_output(vit: ViT, pool: str, tokens: slice):
    with torch.no_grad(), capture(vit) as trace:
        vit(images())
    expected = trace.outputs["stack.blocks.1"][:, tokens].mean(1)
    assert torch.allclose(run(vit, layer="stack.blocks.1", pool=pool)["features"], expected, atol=1e-5)
    head = run(vit, layer="stack.blocks.1")["features"]
    assert torch.allclose(head, trace.outputs["stack.blocks.1"][:, 0], atol=1e-5)


def test_a_map_is_averaged_over_its_cells():
    torch.manual_seed(0)
    net = CifarResNet(8, num_classes=10).eval()
    with torch.no_grad(), capture(net) as trace:
        net(images())
    expected = trace.outputs["layer2"].mean((2, 3))
    assert torch.allclose(run(net, layer="layer2", pool="mean")["features"], expected, atol=1e-5)
    with pytest.raises(ConfigError, match="no class token"):
        run(net, pool="class")


def test_pixels_are_the_normalised_image():
    assert torch.allclose(run(Pixels(16))["features"], images().flatten(1), atol=1e-5)


@pytest.mark.parametrize("devices", [2, 3])
def test_several_devices_give_the_same_rows_in_the_same_order(vit: ViT, devices: int):
    one, many = run(vit), run(vit, devices=devices)
    assert torch.equal(one["index"], many["index"])
    assert torch.allclose(one["features"], many["features"], atol=1e-6)


def test_a_missing_layer_is_answered_with_the_nearest(vit: ViT):
    with pytest.raises(ConfigError, match=r"Did you mean `stack\.blocks\.2`"):
        feat.encoder(vit, layer="stack.block.2", pool="head")
    with pytest.raises(ConfigError, match="head, class, mean"):
        feat.encoder(vit, layer=None, pool="max")


def test_a_feature_that_is_not_finite_is_refused_by_its_image(vit: ViT):
    class Broken(nn.Module):
        def features(self, image):
            found = vit.features(image)
            found.pooled[image.sum((1, 2, 3)) == image.sum((1, 2, 3)).max(), 0] = torch.nan
            return found

    with pytest.raises(DataError, match=r"features of image \d+ of d, train are not finite"):
        run(Broken())


def test_the_digest_leaves_out_the_head_and_nothing_else(vit: ViT):
    import copy

    before = feat.digest(feat.image_weights(vit))
    other = copy.deepcopy(vit)
    nn.init.ones_(other.head.weight)
    assert feat.digest(feat.image_weights(other)) == before
    other.cls_token.data[0, 0, 0] += 1e-6
    assert feat.digest(feat.image_weights(other)) != before
