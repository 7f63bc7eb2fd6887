"""The registry of published figures and the words for what differs."""

from __future__ import annotations

import pytest

from tfcli.engine.compose import options
from tfcli.engine.published import entries, family, published_for


def test_every_entry_is_complete_and_names_data_that_there_are():
    names = set(options("data"))
    for entry in entries():
        assert entry["data"] in names
        assert 0 < entry["value"] < 1
        assert entry["source"]
        assert entry["protocol"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("vit", "vit"),
        ("vit_b_16", "vit"),
        ("resnet34", "resnet"),
        ("resnet56", "resnet_cifar"),
        ("mobilenet_v2", "mobilenet_v2"),
    ],
)
def test_families(model, expected):
    assert family(model) == expected


def test_the_homework_and_nothing_that_differs():
    (found,) = published_for("resnet34", "pets", "IMAGENET1K_V1", counts={"val": 0, "test": 3669})
    assert found["value"] == 0.9
    assert found["differs"] == ""


def test_differences_are_said_in_words():
    found = published_for("vit", "pets", counts={"val": 26, "test": 111})[0]
    assert found["differs"].split("; ") == [
        "model vit_l16, ours vit",
        "pre-trained on ImageNet-21k, ours from scratch",
        "at 384 px, ours at 224",
        "trained on train + val, ours on train alone",
        "on 3,669 test images, ours on 111",
    ]


def test_the_nearest_comes_first():
    sources = [entry["source"] for entry in published_for("vit_b_16", "imagenet", "IMAGENET1K_V1")]
    assert sources[0] == "torchvision, vit_b_16 IMAGENET1K_V1"
    values = [entry["value"] for entry in published_for("resnet56", "cifar10")]
    assert values[:2] == [0.9339, 0.9303]
    assert published_for("vit", "digits") == []
    assert published_for("vit", "pets", metric="test/loss") == []
