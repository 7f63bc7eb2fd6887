"""Mistakes that only the files and the machine can show: exit code 2, one line; nothing started or overwritten."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from conftest import TINY, tfcli

from tfcli.cli import app as cli
from tfcli.errors import TfcliError


def refused(words: list[str], cwd: Path, monkeypatch: pytest.MonkeyPatch) -> TfcliError:
    """Run a command in this process; it must fail with one of our errors before a run folder exists."""
    monkeypatch.chdir(cwd)
    before = {p for p in cwd.rglob("*") if p.name == "config.yaml"}
    with pytest.raises(TfcliError) as error:
        cli.app(["train", *words], standalone_mode=False)
    assert {p for p in cwd.rglob("*") if p.name == "config.yaml"} == before
    assert "\n" not in str(error.value).strip() or len(str(error.value)) < 2000
    return error.value


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=folder", "data.root=nowhere"], "nowhere"),
        (["data=pets", "data.root=nowhere"], "nowhere"),
        (["data=digits", "trainer.devices=2"], "trainer=ddp_cpu trainer.devices=2"),
        (["data=digits", "trainer=ddp_cpu", "trainer.devices=999"], "Use at most"),
        (["data=digits", "trainer=ddp"], "trainer=ddp_cpu"),
        (["data=digits", "trainer=fsdp"], "GPU"),
        (["data=digits", "trainer.monitor=val/accurracy"], "Did you mean `val/accuracy`"),
        (["data=digits", "data.num_classes=11"], "11"),
        (["data=digits", "model.weights=missing.pt"], "missing.pt"),
        (["data=digits", "run.root=/proc/outputs"], "/proc/outputs"),
        (["data=digits", "+model.colour=3"], "colour"),
        (["data=digits", "model=resnet34", "model.weights=IMAGENET1K_V1"], "pytorch.org"),
        (["data=digits", "model.weights=google/vit-base-patch16-224"], "google/vit-base-patch16-224"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_refused_before_anything_starts(words, said, tmp_path, monkeypatch):
    error = refused(["logger=csv", "trainer.precision=32", *words], tmp_path, monkeypatch)
    assert error.exit_code == 2
    assert said in str(error)


def test_weights_of_another_architecture_are_listed_side_by_side(tmp_path, monkeypatch, tiny_run):
    error = refused(
        [*TINY, "model.depth=3", f"model.weights={tiny_run / 'checkpoints' / 'best.ckpt'}"], tmp_path, monkeypatch
    )
    assert error.exit_code == 2
    assert "blocks.2" in str(error)


def test_a_named_folder_that_holds_a_run_is_left_alone(tmp_path, monkeypatch, tiny_run):
    shutil.copytree(tiny_run, tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    error = refused([*TINY, "run.dir=run"], tmp_path, monkeypatch)
    assert error.exit_code == 2
    assert "already holds a run" in str(error)
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_errors_of_the_program_are_one_line_and_exit_2(tmp_path):
    done = tfcli("train", "model=vti", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("tfcli: there is no model `vti`.")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_resume_keeps_the_config(tmp_path, tiny_run):
    done = tfcli("resume", str(tiny_run), "model.width=64", cwd=tmp_path)
    assert done.returncode == 2
    assert "model.width: 32 -> 64" in done.stderr
    done = tfcli("resume", str(tiny_run), cwd=tmp_path)
    assert done.returncode == 0
    assert "is finished" in done.stderr


def test_changed_data_are_noticed_on_resume(tmp_path, tiny_run):
    shutil.copytree(tiny_run, tmp_path / "run")
    config = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(config.replace("limit_train: 300", "limit_train: 301"))
    done = tfcli("resume", "run", "trainer.max_epochs=3", cwd=tmp_path)
    assert done.returncode == 2
    assert "data are not those the run began with" in done.stderr
