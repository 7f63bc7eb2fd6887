"""The real sets beside the checkout, through torchvision's own loaders and our whole program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import tfcli

QUICK = ("logger=csv", "trainer.precision=32", "trainer.threads=1", "--json")


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "least"), [(20, 0.905), (56, 0.925)])
def test_published_cifar_resnets_score_what_was_published(depth: int, least: float, real_data: Path, tmp_path: Path):
    weights = next((real_data / "weights" / "cifar10_resnet").glob(f"resnet{depth}-*.th"))
    words = ("evaluate", f"model=resnet{depth}", "data=cifar10", f"data.root={real_data}", f"model.weights={weights}")
    done = tfcli(*words, *QUICK, cwd=tmp_path)
    assert done.returncode == 2, "torchvision's checksum must refuse the subset"
    assert "data.verify=false" in done.stderr
    done = tfcli(*words, "data.verify=false", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "verification off" in done.stderr
    record = json.loads(done.stdout)
    assert record["counts"]["test"] == 761
    assert record["metrics"]["test/accuracy"] >= least


@pytest.mark.slow
def test_the_homework_runs_from_a_torchvision_state_dict(real_data: Path, tmp_path: Path):
    from torchvision.models import resnet34

    torch.manual_seed(0)
    torch.save(resnet34().state_dict(), tmp_path / "resnet34.pth")
    small = ("data.image_size=64", "data.limit_train=37", "data.limit_test=37", "trainer.max_epochs=1")
    words = ("experiment=pets_resnet34", "model.weights=resnet34.pth", f"data.root={real_data}", *small)
    done = tfcli("train", *words, *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "head 1000 -> 37 classes: new" in done.stderr
    assert "21,303,653  parameters" in done.stderr
    assert "(layer4)" in done.stderr
    rows = (tmp_path / "outputs" / "latest" / "metrics.csv").read_text()
    assert "test/accuracy" in rows  # watched for its curve
    assert "train/accuracy" in rows


@pytest.mark.slow
def test_flowers_has_its_official_splits(real_data: Path, tmp_path: Path):
    words = ("model=vit", "data=flowers", f"data.root={real_data}", "data.image_size=32", "data.patch_size=8")
    done = tfcli("train", *words, "data.limit_train=204", "trainer.max_epochs=1", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["counts"] == {"train": 204, "val": 1020, "test": 6149}
