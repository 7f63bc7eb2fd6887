"""A family is two files: one that a user writes trains like a packaged one, and every verb opens its run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tfcli.cli.app import app
from tfcli.engine.loading.load_model import load_model
from tfcli.nn.patterns import SlidingWindow
from tfcli.nn.places import Places

SMALL = (
    "data=shapes", "data.label=colour", "data.num_train=600", "data.num_val=50", "data.num_test=200",
    "data.batch_size=25", "optim.lr=0.003", "schedule.warmup_steps=5", "trainer.max_epochs=1", "trainer.threads=1",
    "trainer.precision=32", "logger=csv",
)  # fmt: skip
FROZEN = ("data.num_train=100", "data.num_val=50", "data.num_test=50", "features.threads=1", "features.precision=32")


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., float]:
    """Train a family in a folder of one's own, which holds its two files; returns the accuracy on the test split."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def train(name: str, *settings: str) -> float:
        shutil.copytree(Path(__file__).parent / name, tmp_path, dirs_exist_ok=True)
        app(["train", f"model={name}", *SMALL, *settings, "run.dir=run"], standalone_mode=False)
        record = json.loads((tmp_path / "run/results.json").read_text())
        assert record["status"] == "finished"
        return record["metrics"]["test/accuracy"]

    return train


def answer(*words: str) -> dict | list:
    """Return what a verb prints as JSON."""
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def check_frozen_verbs(name: str) -> None:
    """Describe the family, probe its run, and find the features that the probe cached."""
    assert answer("describe", f"model={name}", "data=shapes")["params"]["total"] > 1000
    record = answer("probe", "run", "shapes", "heads=[knn]", *FROZEN, "run.dir=probed")
    assert 0 < record["metrics"]["knn/accuracy"] <= 1
    rows = answer("features", "ls", "run", "shapes", *FROZEN)
    assert {row["cache"] for row in rows} == {"hit"}


def test_latents_that_read_patches_of_another_width_learn(trained) -> None:
    assert trained("perceiver", "trainer.max_epochs=2") > 0.6  # one in eight by chance
    check_frozen_verbs("perceiver")


def test_patches_that_each_sample_keeps_for_itself_learn(trained) -> None:
    assert trained("kept_patches", "model.keep=12") > 0.6
    check_frozen_verbs("kept_patches")
    net = load_model(Path("run"), []).net
    seen: list[Places] = []
    net.stack.blocks[0].attention.register_forward_hook(lambda _, inputs, __: seen.append(inputs[1].query))
    with torch.inference_mode():
        net(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    first, second = seen[0].coords
    assert len(first) == 12
    assert not first.equal(second)


def test_layers_that_alternate_patterns_learn_and_the_shell_sets_them(trained) -> None:
    assert trained("striped", "model.attn.patterns.near.size=2") > 0.4
    check_frozen_verbs("striped")
    patterns = [attention.pattern for attention in load_model(Path("run"), []).net.stack.attentions]
    assert [type(pattern).__name__ for pattern in patterns] == ["Row", "Column", "SlidingWindow"]
    assert patterns[2] == SlidingWindow(2)
    other = answer("describe", "model=striped", "data=shapes", "attn=axial", "model.attn=${attn}")
    assert other["params"] == answer("describe", "model=striped", "data=shapes")["params"]
