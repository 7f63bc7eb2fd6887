"""Every family: a tiny run of it is described, probed, run again and exported, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from contract.families import node, reads_images
from contract.test_product import OFFERED, SETS
from torch.testing import assert_close
from typer.testing import CliRunner

from tfcli.cli.app import app
from tfcli.engine.config.compose import compose
from tfcli.engine.loading.load_model import load_model
from tfcli.errors import UserError
from tfcli.weights.open_weights import converter_of

PROCEDURAL = ("shapes", "toy_topics", "reversal", "shapes_questions")
FAST = (
    "data.num_train=60", "data.num_val=20", "data.num_test=20", "data.batch_size=10", "data.workers=0",
    "trainer.max_epochs=1", "trainer.threads=1", "trainer.precision=32", "logger=csv",
)  # fmt: skip
FROZEN = (
    "data.image_size=32", "data.num_train=40", "data.num_val=20", "data.num_test=20", "features.threads=1",
    "features.precision=32",
)  # fmt: skip
TINY = {"width": 32, "heads": 4, "patch_size": 8}
OWN = {
    "bert": ["model.post_norm=true"],
    "clip": ["model.image.stem=patch"],
    "resnet": ["model.depth=18"],
    "resnet110": ["model.depth=8"],
    "torchvision": ["model.name=mobilenet_v3_small"],
    "transformer": ["model.norm_eps=1e-5"],
}
"""What a family's public format asks for, or what makes it small."""
TRAINED = sorted({family for family, _ in OFFERED})
SLOW = ("clip", "deit", "resnet", "resnet110", "torchvision")
"""Families that read what a faster one reads too, and whose runs take longest."""


def words(family: str) -> list[str]:
    """Settings of a small model of the family, on data that are made on the spot."""
    job = compose("train", [f"model={family}"])
    task = job.choices["task"] if job.choices["task"] != "distill" else "classify"
    data = next(name for name in PROCEDURAL if set(node("task", task)["needs"]) <= SETS[name])
    few = ["data.label=shape"] if data == "shapes" else []  # a matrix of all 48 classes takes longer than the training
    sizes = [f"model.{key}={value}" for key, value in TINY.items() if key in node("model", family)]
    depth = ["model.depth=1"] if {"depth", "heads"} <= node("model", family).keys() else []
    return [f"model={family}", f"data={data}", *few, *sizes, *depth, f"task={task}", *OWN.get(family, [])]


def answer(*typed: str) -> dict | list:
    """Return what a verb prints as JSON.

    Raises:
        UserError: it refuses.
    """
    done = CliRunner().invoke(app, [*typed, "--json"])
    if isinstance(done.exception, UserError):
        raise done.exception
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


@pytest.mark.parametrize("family", [pytest.param(f, marks=pytest.mark.slow) if f in SLOW else f for f in TRAINED])
def test_every_verb_opens_a_run_of_a_family(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    typed = words(family)
    record = answer("train", *typed, *FAST, "run.dir=run")
    assert record["status"] == "finished"
    facts = answer("describe", *typed, *FAST, "model.weights=run")
    assert facts["params"]["total"] == record["params"]["total"]
    again = answer("rerun", "run", "seed=1", "trainer.max_steps=1", "run.dir=again")
    assert (again["status"], again["seed"]) == ("finished", 1)
    if reads_images(family) and "task=answer" not in typed:
        probed = answer("probe", "run", "shapes", "heads=[knn]", *FROZEN, "run.dir=probed")
        assert 0 <= probed["metrics"]["knn/accuracy"] <= 1
        assert {row["cache"] for row in answer("features", "ls", "run", "shapes", *FROZEN)} == {"hit"}
    else:
        with pytest.raises(UserError, match="image"):
            answer("probe", "run", "shapes", "heads=[knn]")
    check_export(family, typed)


def check_export(family: str, typed: list[str]) -> None:
    """Export the run and take the folder back, or be refused by name where the family has no public format."""
    target = node("model", family)["_target_"]
    holds = getattr(converter_of(target), "HOLDS", None)
    if holds is None or holds.get("_target_", target) != target:
        with pytest.raises(UserError, match=f"`model={family}` (has no public format|cannot be exported)"):
            answer("export", "run", "--to", "out")
        assert not Path("out").exists()
        return
    assert "README.md" in answer("export", "run", "--to", "out")["files"]
    ours = load_model(Path("run"), []).net.state_dict()
    back = load_model(None, [*typed, "model.weights=out"]).net.state_dict()
    for name, tensor in ours.items():
        assert_close(back[name], tensor, rtol=0, atol=1e-6, msg=name)
    assert not any(torch.is_nonzero(back[name].abs().sum()) for name in back.keys() - ours.keys())
