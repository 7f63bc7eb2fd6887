"""Runs that are killed, stopped and resumed: nothing is lost and nothing changes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, tfcli

from tfcli.engine.runs.record import read_metrics, read_record

LONG = (
    *TINY,
    "trainer.max_epochs=6",
    "model.dropout=0.1",
    "data.augment.mixup=0.2",
    "trainer.ema_decay=0.9",
    "trainer.save_every_steps=2",
    "data.batch_size=32",
)


@contextmanager
def started(*words: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """The program in a process of its own, gone when the test is."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "tfcli", *words],
        cwd=cwd,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(text):
            return
    pytest.fail(f"the run ended before {text!r}: {''.join(said)}")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("whole")
    done = tfcli("train", *LONG, "run.dir=run", cwd=work)
    assert done.returncode == 0, done.stderr
    return work / "run"


def same(a: Path, b: Path) -> None:
    """Bit-identical weights (averaged and current), optimizer and metric history."""
    one, two = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (a, b))
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(one[part][name], two[part][name]) for name in one[part])
    for key, state in one["optimizer_states"][0]["state"].items():
        assert torch.equal(state["exp_avg"], two["optimizer_states"][0]["state"][key]["exp_avg"])
    assert one["tfcli"]["position"] == two["tfcli"]["position"]
    first, second = ({(r.step, r.name): r.value for r in read_metrics(run / "metrics.csv")} for run in (a, b))
    assert first == second
    assert read_record(a).metrics == read_record(b).metrics


def test_a_run_killed_in_mid_epoch_resumes_to_identical_weights(tmp_path: Path, uninterrupted: Path):
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with started("train", *LONG, "run.dir=run", cwd=tmp_path) as process:
        wait_for(process, "epoch 2/6")
        seen = last.stat().st_mtime_ns
        while last.stat().st_mtime_ns == seen:  # the first save in epoch 3, which is in mid-epoch
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    epoch, batch = torch.load(last, weights_only=True)["tfcli"]["position"]
    assert epoch >= 2
    assert read_record(tmp_path / "run").status == "unfinished"
    done = tfcli("resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"resumed in epoch {epoch + 1} at batch {batch}" in done.stderr
    same(uninterrupted, tmp_path / "run")


def test_a_signal_saves_first_and_exits_as_shells_expect(tmp_path: Path):
    """SIGTERM; `test_signals` sends each signal in each part of a run."""
    with started(
        "train", *LONG, "trainer.max_epochs=200", "trainer.save_every_steps=null", "run.dir=run", cwd=tmp_path
    ) as process:
        wait_for(process, "epoch 1/200")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 143
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert record["status"] == "interrupted"
    assert "tfcli resume" in record["error"]
    step = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert f"after step {step}." in record["error"]
    assert not list((tmp_path / "run").rglob("*.tmp"))
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_torn_last_checkpoint_is_passed_over_and_named(tmp_path: Path, tiny_run: Path):
    shutil.copytree(tiny_run, tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    whole = bytearray(last.read_bytes())
    whole[len(whole) // 2] ^= 1  # one bit
    last.write_bytes(whole)
    (tmp_path / "run" / "checkpoints" / ".last.ckpt.123.tmp").write_bytes(b"left by a killed writer")
    done = tfcli("resume", "run", "trainer.max_epochs=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "last.ckpt` is torn" in done.stderr
    assert read_record(tmp_path / "run").status == "finished"
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_without_a_whole_checkpoint_there_is_nothing_to_resume(tmp_path: Path, tiny_run: Path):
    shutil.copytree(tiny_run, tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").iterdir():
        file.write_bytes(file.read_bytes()[:1000])
    done = tfcli("resume", "run", "trainer.max_epochs=3", cwd=tmp_path)
    assert done.returncode == 2
    assert "no whole checkpoint" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(tmp_path: Path):
    done = tfcli(
        "train",
        *TINY,
        "trainer.max_epochs=3",
        "optim.lr=1e30",
        "schedule.warmup_steps=6",
        "trainer.clip=0",
        "run.dir=run",
        "optim=sgd",
        "trainer.save_every_steps=1",
        cwd=tmp_path,
    )
    assert done.returncode == 3, done.stderr
    assert "the loss is" in done.stderr
    assert "step" in done.stderr
    assert read_record(tmp_path / "run").status == "failed"
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    if last.exists():
        state = torch.load(last, weights_only=True)["state_dict"]
        assert all(t.isfinite().all() for t in state.values())


def test_a_full_disk_keeps_the_checkpoint_before_it(tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(tiny_run, tmp_path / "run")
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    monkeypatch.setattr("tfcli.engine.train.run.check_space", lambda *given, **named: None)  # or it is known beforehand
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        done = tfcli("resume", "run", "trainer.max_epochs=3", cwd=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.returncode == 1, done.stderr
    assert "could not be written" in done.stderr
    assert "MiB free" in done.stderr
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == before
