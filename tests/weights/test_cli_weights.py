"""`tfcli weights`: what is here, and what a checkpoint holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from tfcli.cli.weights import mount
from tfcli.errors import WeightsError

RUNNER = CliRunner()


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("TFCLI_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    program = typer.Typer(pretty_exceptions_enable=False)
    program.callback()(lambda: None)
    mount(program)
    return program


def test_status_lists_what_is_known(app: typer.Typer) -> None:
    result = RUNNER.invoke(app, ["weights", "status", "--json"])
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["cifar10_resnet20"]["licence"] == "BSD-2-Clause"
    assert {row["here"] for row in rows.values()} == {"no"}


def test_status_of_a_file_says_what_it_holds(app: typer.Typer, tmp_path: Path) -> None:
    shapes = {"blocks.0.attn.qkv.weight": (6, 2), "patch_embed.proj.weight": (2, 1, 1, 2)}
    torch.save({name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}, tmp_path / "x.pt")
    result = RUNNER.invoke(app, ["weights", "status", str(tmp_path / "x.pt"), "--json"])
    facts = json.loads(result.stdout)
    assert (facts["tensors"], facts["values"], facts["types"], facts["names"]) == (2, 16, ["float16"], "ViT of timm")
    assert len(facts["sha256"]) == 64


def test_a_wrong_name_has_its_near_miss(app: typer.Typer) -> None:
    result = RUNNER.invoke(app, ["weights", "status", "cifar10_resnet21"])
    assert isinstance(result.exception, WeightsError)
    assert "Did you mean `cifar10_resnet20`?" in str(result.exception)


def test_get_says_where_the_file_lies(app: typer.Typer, tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["weights", "get", "cifar10_resnet20"])
    assert isinstance(result.exception, WeightsError)
    file = tmp_path / "torch/hub/checkpoints/resnet20-12fca82f.th"
    file.parent.mkdir(parents=True)
    file.touch()
    assert RUNNER.invoke(app, ["weights", "get", "cifar10_resnet20"]).stdout.strip() == str(file)
