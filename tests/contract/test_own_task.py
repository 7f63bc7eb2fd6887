"""A task is two files, too: one that a user writes, with a model of its own, trains on any set with its columns."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tfcli.cli.app import app

SMALL = (
    "model=segmenter", "data.image_size=32", "data.batch_size=8", "data.workers=0", "optim.lr=0.01",
    "schedule.warmup_steps=2", "trainer.threads=1", "trainer.precision=32", "logger=csv", "run.dir=run",
)  # fmt: skip


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Train the segmenter in a folder of one's own; returns the record of the run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "segmenter", raising=False)  # of another test's folder
    shutil.copytree(Path(__file__).parent / "segmenter", tmp_path, dirs_exist_ok=True)

    def train(*settings: str) -> dict:
        app(["train", *SMALL, *settings], standalone_mode=False)
        return json.loads((tmp_path / "run/results.json").read_text())

    return train


@pytest.mark.slow
def test_masks_of_streets_are_learned(trained, real_data) -> None:
    few = ("data.limit_train=120", "data.limit_val=8", "data.limit_test=40", "trainer.max_epochs=3")
    record = trained("data=camvid", f"data.root={real_data}", *few)
    assert record["status"] == "finished"
    assert record["metrics"]["test/accuracy"] > 0.55  # the commonest class has 0.33 of the pixels
    assert record["metrics"]["test/mean_iou"] > 0.12  # and alone, 0.03
    again = CliRunner().invoke(app, ["evaluate", "run", "--json"])
    assert json.loads(again.stdout)["metrics"]["test/mean_iou"] == record["metrics"]["test/mean_iou"]


@pytest.mark.slow
def test_masks_of_shapes_are_learned(trained) -> None:
    few = ("data.num_train=480", "data.num_val=8", "data.num_test=100", "trainer.max_epochs=2")
    record = trained("data=shapes", "data.scene_objects=4", *few)
    assert record["metrics"]["test/accuracy"] > 0.835  # background has 0.831 of the pixels
    assert record["metrics"]["test/mean_iou"] > 0.035  # and alone, 0.017
