"""Training as it is logged, stopped and gone on with: tiny runs in this process."""

from __future__ import annotations

import csv
import os
import pty
import re
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import torch

from tfcli.cli import app as cli
from tfcli.engine.runs.record import read_metrics, read_overrides, read_record
from tfcli.engine.train.callbacks import Progress, bar
from tfcli.engine.train.finite import Finite
from tfcli.errors import PolicyStop

SMALL = (
    *("model=vit", "model.depth=1", "model.width=24", "model.heads=2", "data=digits", "data.workers=0"),
    *("data.limit_train=64", "data.limit_val=64", "data.limit_test=64", "data.baseline=false"),
    *("data.augment.mixup=0", "logger=csv", "trainer.precision=32", "trainer.threads=1"),
)
PLAIN = ("optim=sgd", "optim.lr=0.1", "optim.weight_decay=0", "trainer.clip=0", "schedule=constant")


def tfcli(*words: str) -> None:
    """Run a command in this process."""
    cli.app(list(words), standalone_mode=False)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFCLI_RUN_DIR", "")  # a run sets it: put it back afterwards
    monkeypatch.delenv("TFCLI_RUN_DIR")


def values(folder: str, name: str) -> list[float]:
    return [row.value for row in read_metrics(Path(folder) / "metrics.csv") if row.name == name]


def test_steps_of_several_batches_are_logged_and_weighed_by_their_own_batches(capfd):
    loss = {}
    for name, size, accumulate in (("whole", 48, 1), ("part", 16, 4), ("rest", 16, 2)):
        words = (f"data.batch_size={size}", f"trainer.accumulate={accumulate}", "trainer.log_every_steps=1")
        tfcli("train", *SMALL, *PLAIN, "data.limit_train=48", *words, "trainer.max_epochs=1", f"run.dir={name}")
        loss[name] = values(name, "val/loss")
        assert values(name, "train/loss_step")[0] == pytest.approx(2.303, abs=0.02)
        assert len(values(name, "train/loss_step")) == (2 if name == "rest" else 1)
    assert loss["part"] == pytest.approx(loss["whole"], abs=1e-6)  # an epoch's only step, of three batches and not four
    said = capfd.readouterr().err
    assert said.count("1 step of 48 images\n") == 2
    assert "2 steps of 32 images, the last of an epoch of 1 batch in place of 2" in said


@pytest.mark.parametrize("validation", [64, 0])
def test_weights_that_diverge_in_the_last_step_end_with_exit_3(validation, capfd):
    words = ("trainer.max_steps=1", "optim.lr=1e30", "schedule=constant", "run.dir=run")
    carve = () if validation else ("data.val_fraction=0",)
    with pytest.raises(PolicyStop) as stopped:
        tfcli("train", *SMALL, *words, *carve)
    assert stopped.value.exit_code == 3
    assert ("`val/loss` is nan" if validation else "`test/loss` of") in str(stopped.value)
    assert "There is no good checkpoint yet." in str(stopped.value)
    left = {path.name for path in Path("run/checkpoints").iterdir()}
    assert left == (set() if validation else {"suspect.ckpt"})
    record = read_record(Path("run"))
    assert (record.status, record.error) == ("failed", str(stopped.value))
    tfcli("runs", "show", "run")
    assert "failed" in capfd.readouterr().out


def test_the_last_good_checkpoint_is_kept_and_named(capfd):
    rising = ("schedule=step", "schedule.factor=1e32", "schedule.every_epochs=1", "trainer.max_epochs=3")
    with pytest.raises(PolicyStop, match=r"`val/loss` is nan at step 2 .* checkpoint is `run/checkpoints/last.ckpt`"):
        tfcli("train", *SMALL, *rising, "run.dir=run")
    for name in ("best", "last"):
        kept = torch.load(f"run/checkpoints/{name}.ckpt", weights_only=True)
        assert kept["global_step"] == 1
        assert max(float(value.abs().max()) for value in kept["state_dict"].values()) < 100


def test_a_buffer_that_is_not_a_number_is_found():
    module = torch.nn.BatchNorm1d(2)
    mask = torch.nn.Module()
    mask.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    trainer = SimpleNamespace(
        lightning_module=torch.nn.ModuleList([module, mask]),
        world_size=1,
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.1}])],
        current_epoch=0,
        global_step=7,
        precision="32-true",
    )
    watch = Finite(1, kept=lambda trainer: "None is kept.")
    watch.check_weights(trainer)
    module.running_var[1] = float("nan")
    with pytest.raises(PolicyStop, match=r"`0.running_var`\) at step 7 .*None is kept"):
        watch.check_weights(trainer)


def test_an_epoch_that_max_steps_cut_short_goes_on_with_more_of_them(capfd):
    words = ("data.batch_size=16", "schedule=constant", "trainer.max_epochs=4", "trainer.save_every_steps=1")
    tfcli("train", *SMALL, *words, "trainer.max_steps=6", "run.dir=cut")
    said = capfd.readouterr().err
    assert "epoch 2/2 " in said
    assert "val/" not in next(line for line in said.splitlines() if line.startswith("epoch 2/"))  # not validated again
    tfcli("resume", "cut", "trainer.max_steps=9")
    tfcli("train", *SMALL, *words, "trainer.max_steps=9", "run.dir=whole")
    cut, whole = (torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("cut", "whole"))
    assert cut["tfcli"]["position"] == whole["tfcli"]["position"] == [2, 1]
    assert all(torch.equal(cut["state_dict"][name], whole["state_dict"][name]) for name in whole["state_dict"])
    assert values("cut", "train/loss")[-2:] == values("whole", "train/loss")[-2:]
    assert values("cut", "val/loss")[-1:] == values("whole", "val/loss")[-1:]


def on_a_terminal(*words: str) -> str:
    """Run a command in this process with stderr on a pseudo-terminal; returns what it drew."""
    leader, follower = pty.openpty()
    drawn: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # Linux reports the end so
            while data := os.read(leader, 65536):
                drawn.append(data)

    reader = Thread(target=read)
    reader.start()
    before = sys.stderr
    with os.fdopen(follower, "w", encoding="utf-8") as sys.stderr:
        try:
            tfcli(*words)
        finally:
            sys.stderr = before
    reader.join(timeout=20)
    os.close(leader)
    return b"".join(drawn).decode()


def said(folder: str) -> list[str]:
    """Return the lines of a log without what differs between any two runs: names, times and speeds."""
    differs = rf"\b{folder}\b|[\d,]+ images/s|\d+:\d+ left|\d+ s · [\d,]+ MB| +"
    return [re.sub(differs, " ", line) for line in Path(folder, "log.txt").read_text().splitlines()]


def test_a_terminal_of_60_columns_gets_and_leaves_what_a_pipe_does(monkeypatch, capfd):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(Progress, "REFRESH_S", 0.0)
    words = ("trainer.max_epochs=2", "data.batch_size=16")
    tfcli("train", *SMALL, *words, "run.dir=piped")
    piped = capfd.readouterr()
    drawn = on_a_terminal("train", *SMALL, *words, "run.dir=drawn")
    assert said("piped") == said("drawn")
    log = Path("drawn/log.txt").read_text()
    assert [line[:9] for line in log.splitlines() if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    results = [line.partition("]")[0] for line in piped.out.splitlines() if line.startswith(("accuracy", "loss"))]
    assert len(results) == 2
    assert all("…" not in line and line in log for line in results)
    assert "\x1b" not in log
    lines = drawn.replace("\r\n", "\n").split("\n")
    assert sum(line.rpartition("\r\x1b[K")[2].startswith("epoch") for line in lines) == 2
    bars = [part for part in re.split(r"\r\x1b\[K|\n", drawn.replace("\r\n", "\n")) if "─" in part or "━" in part]
    assert len(bars) >= 6
    assert all(re.match(r"epoch \d/2 .* [\d,]+ images/s · \d+:\d\d left", bar) and len(bar) < 60 for bar in bars)


@pytest.mark.parametrize("columns", [20, 45, 60, 80, 200])
def test_the_bar_keeps_epoch_rate_and_time_left(columns):
    line = bar(
        ("epoch 12/60", "125,311 images/s · 1:04:10 left"), 0.5, ["train/loss 0.396", "val/accuracy 0.979"], columns
    )
    assert line.startswith("epoch 12/60 ")
    assert "125,311 images/s · 1:04:10 left" in line
    assert len(line) <= max(columns, 45)
    assert ("val/accuracy 0.979" in line) == (columns == 200)


def test_a_resumed_run_logs_nothing_twice_and_says_how_its_schedule_changes(capfd):
    tfcli("train", *SMALL, "trainer.max_epochs=2", "trainer.log_every_steps=1", "data.batch_size=32", "run.dir=run")
    metrics = Path("run/metrics.csv")
    with open(metrics, "a") as file:  # as a killed run leaves it, which had gone on to steps 5 and 6
        file.write("2,5,train/loss_step,2.1\n2,6,train/loss_step,2.2\n2,6,val/loss,2\n2,6,val/acc")
    capfd.readouterr()
    tfcli("resume", "run", "trainer.max_epochs=4")
    rows = list(csv.reader(metrics.read_text().splitlines()))
    assert all(len(row) == 4 for row in rows)
    assert max(Counter((step, name) for _, step, name, _ in rows).values()) == 1
    assert {step for _, step, name, _ in rows if name == "train/loss_step"} == {str(n) for n in range(1, 9)}
    said = capfd.readouterr().err
    assert "`trainer.max_epochs` 2 -> 4: the run ends after 8 steps in place of 4; the schedule is stretched" in said
    typed = read_overrides(Path("run"))
    assert "trainer.max_epochs=4" in typed
    assert "trainer.max_epochs=2" not in typed
    assert (
        "trainer.max_epochs" in Path("run/command.txt").read_text()
        or len(Path("run/command.txt").read_text().splitlines()) == 2
    )


def test_an_evaluation_that_finds_no_finite_loss_keeps_its_record_and_exits_with_3(capfd):
    tfcli("train", *SMALL, "trainer.max_epochs=1", "run.dir=run")
    path = Path("run/checkpoints/best.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    for value in checkpoint["state_dict"].values():
        value *= 1e30
    torch.save(checkpoint, path)
    with pytest.raises(PolicyStop, match="`test/loss` is nan"):
        tfcli("evaluate", "run")
    record = read_record(next(Path("outputs/evaluate").glob("*/*")))
    assert (record.status, record.metrics["test/accuracy"] >= 0) == ("failed", True)
