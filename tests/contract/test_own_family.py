"""A family is two files: one that a user writes trains like a packaged one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tfcli.cli.app import app

SMALL = (
    "data=shapes", "data.label=colour", "data.num_train=1200", "data.num_val=100", "data.num_test=400",
    "data.batch_size=50", "optim.lr=0.003", "schedule.warmup_steps=10", "trainer.max_epochs=2", "trainer.threads=1",
    "trainer.precision=32", "logger=csv",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with the family's two files."""
    shutil.copytree(Path(__file__).parent / "perceiver", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_latents_that_read_patches_of_another_width_learn(folder: Path) -> None:
    app(["train", "model=perceiver", *SMALL, "run.dir=run"], standalone_mode=False)
    record = json.loads((folder / "run/results.json").read_text())
    assert record["status"] == "finished"
    assert record["metrics"]["test/accuracy"] > 0.8  # one in eight by chance
