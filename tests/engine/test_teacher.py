"""Who may teach, and a distilled run from the shell: with every switch of DeiT's table, killed, gone on with."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import TINY, tfcli
from faults.test_interruptions import same, started, wait_for

from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.engine.runs.record import read_overrides, read_record
from tfcli.engine.train import teacher
from tfcli.errors import ConfigError, RunError, WeightsError

DIGITS = [str(digit) for digit in range(10)]


def job(*words: str):
    composed = compose("train", ["model=deit", "data=digits", *words])
    return composed.config, composed.overrides


def data(classes: list[str], side: int = 8) -> SimpleNamespace:
    return SimpleNamespace(classes=classes, num_classes=len(classes), mean=(0.3,) * 3, std=(0.4,) * 3, image_size=side)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "needs a teacher"),
        (["task.teacher=resnet34"], "without trained weights"),
        (["task.teacher=resnet3", "task.teacher_weights=DEFAULT"], "Did you mean `resnet34`"),
        (["task.teacher=resnet34", "task.kind=none"], "uses no teacher"),
    ],
)
def test_a_missing_or_idle_teacher_is_refused(words, reason):
    with pytest.raises(ConfigError, match=reason):
        teacher.resolve_teacher(*job(*words))


def test_labels_alone_and_other_tasks_need_no_teacher():
    teacher.resolve_teacher(*job("task.kind=none"))
    teacher.resolve_teacher(*job("task=classify"))


def test_a_run_is_named_by_its_path(tiny_run: Path, monkeypatch):
    monkeypatch.chdir(tiny_run.parent)
    config, overrides = job("task.teacher=tiny")
    teacher.resolve_teacher(config, overrides)
    assert config.task.teacher == str(tiny_run.resolve())
    assert overrides[-1] == f"task.teacher={tiny_run.resolve()}"
    with pytest.raises(RunError, match="no run"):
        teacher.resolve_teacher(*job("task.teacher=tinny"))


def test_a_run_teaches_as_it_was_tested(tiny_run: Path):
    config, _ = job(f"task.teacher={tiny_run}")
    found, line = teacher.load_teacher(config, "digits", data(DIGITS))
    assert line.startswith(
        f"teacher: run tiny (vit, test accuracy {read_record(tiny_run).metrics['test/accuracy']:.3f})"
    )
    saved = yaml.safe_load((tiny_run / "config.yaml").read_text())
    net = build(saved["model"]).eval()
    state = torch.load(tiny_run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    net.load_state_dict({name.removeprefix("net."): t for name, t in state.items() if name.startswith("net.")})
    pixels = torch.rand(4, 3, 8, 8)
    mean, std = (torch.tensor(saved["data"][key])[:, None, None] for key in ("mean", "std"))
    expected = net((pixels - mean) / std)
    torch.testing.assert_close(found((pixels - 0.3) / 0.4), expected, atol=1e-4, rtol=1e-4)
    larger = torch.nn.functional.interpolate((pixels - 0.3) / 0.4, size=(16, 16))
    config.data.image_size = 16
    assert "images resized to 8 px" in teacher.load_teacher(config, "digits", data(DIGITS, 16))[1]
    assert found(larger).shape == (4, 10)


def test_a_teacher_of_other_classes_is_refused(tiny_run: Path, tmp_path: Path):
    config, _ = job(f"task.teacher={tiny_run}")
    with pytest.raises(ConfigError, match=r"knows 10 classes \(0, 1, 2, ...\), the data have 2 \(cat, dog\)"):
        teacher.load_teacher(config, "digits", data(["cat", "dog"]))
    torch.save(
        build(compose("train", ["model=resnet18", "data=imagenet"]).config.model).state_dict(), tmp_path / "r.pth"
    )
    config, _ = job("task.teacher=resnet18", f"task.teacher_weights={tmp_path / 'r.pth'}")
    with pytest.raises(WeightsError, match=r"no trained `head` .*1000 -> 10 classes: new.*Train the teacher first"):
        teacher.load_teacher(config, "digits", data(DIGITS))


def test_a_file_teaches_beside_its_model(tmp_path: Path):
    net = build(compose("train", ["model=resnet20", "data=digits"]).config.model).eval()
    torch.save(net.state_dict(), tmp_path / "resnet20.pth")
    config, _ = job("task.teacher=resnet20", f"task.teacher_weights={tmp_path / 'resnet20.pth'}")
    found, line = teacher.load_teacher(config, "digits", data(DIGITS))
    image = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(found(image), net(image))
    assert line == f"teacher: resnet20 with {tmp_path / 'resnet20.pth'}, 0.3 M parameters"


RECIPE = (
    *(word.replace("model=vit", "model=deit") for word in TINY),
    "data.batch_size=32",
    "data.augment={crop: padded, randaugment: 9, randaugment_kind: timm, randaugment_std: 0.5, erasing: 0.25, "
    "erasing_fill: pixel, mixup: 0.8, cutmix: 1.0, repeats: 3}",
    "model.drop_path=0.1",
    "task.label_smoothing=0.1",
    "trainer.ema_decay=0.9",
    "trainer.max_epochs=4",
    "trainer.save_every_steps=2",
)


@pytest.mark.slow
def test_a_distilled_run_killed_in_mid_epoch_resumes_to_identical_weights(tiny_run: Path, tmp_path: Path):
    shutil.copytree(tiny_run, tmp_path / "teacher")
    words = (*RECIPE, "task.teacher=teacher")
    done = tfcli("train", *words, "run.dir=whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "teacher: run teacher (vit" in done.stderr
    assert f"task.teacher={(tmp_path / 'teacher').resolve()}" in read_overrides(tmp_path / "whole")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with started("train", *words, "run.dir=run", cwd=tmp_path) as process:
        wait_for(process, "epoch 1/4")
        seen = last.stat().st_mtime_ns
        while last.stat().st_mtime_ns == seen:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = tfcli("resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    same(tmp_path / "whole", tmp_path / "run")
    kept = torch.load(last, weights_only=True)["state_dict"]
    assert {name.split(".")[1] for name in kept if name.startswith("net.")} == {
        *("patch_embed", "cls_token", "dist_token", "stack", "head", "head_dist")
    }
    shutil.rmtree(tmp_path / "teacher")  # a taught model stands alone
    done = tfcli("evaluate", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = tfcli("resume", "run", "trainer.max_epochs=5", cwd=tmp_path)
    assert done.returncode == 2
    assert "is no longer there" in done.stderr
