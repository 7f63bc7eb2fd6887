"""Jobs that a worker forks: each is as much a process of its own as one that is started."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, program

from benchmarks.signals import Program
from tfcli.engine.runs.record import read_record
from tfcli.sweeps.runner import Launch
from tfcli.sweeps.state import Job, is_running, read_state
from tfcli.sweeps.sweep import run_sweep
from tfcli.sweeps.worker import Forked, Worker

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux only")]
LONG = ("train", *TINY, "trainer.max_epochs=2000")


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Worker, Path]]:
    """A worker that is ready, and the folder that it works in."""
    work = tmp_path_factory.mktemp("work")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TFCLI_CACHE": str(work / "cache")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        one = Worker("train", environment)
    try:
        until(lambda: one.receive() or one.ready or one.gone, "the worker does not import")
        assert one.ready
        yield one, work
    finally:
        one.close()


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def start(worker: tuple[Worker, Path], name: str, *words: str) -> tuple[Forked, Path]:
    log = worker[1] / f"{name}.log"
    with open(log, "ab") as file:
        job = worker[0].fork(words, file, name)
    assert job is not None
    return job, log


def test_each_job_has_its_own_words_log_and_exit_code(worker):
    jobs = {name: start(worker, name, *words) for name, words in (("one", ["--version"]), ("two", ["train", "vti"]))}
    assert {name: job.wait() for name, (job, _) in jobs.items()} == {"one": 0, "two": 2}
    assert jobs["one"][1].read_text().startswith("tfcli ")
    assert "Did you mean `model=vit`?" in jobs["two"][1].read_text()


def test_a_job_computes_what_one_that_is_started_does(worker):
    words = ["train", *TINY, "trainer.max_epochs=2", "seed=3"]
    forked, _ = start(worker, "forked", *words, "run.dir=forked")
    assert program(*words, "run.dir=started", cwd=worker[1]).returncode == 0
    assert forked.wait() == 0
    ours, theirs = worker[1] / "forked", worker[1] / "started"
    assert (ours / "metrics.csv").read_bytes() == (theirs / "metrics.csv").read_bytes()
    assert (ours / "command.txt").read_text() == (theirs / "command.txt").read_text().replace("=started", "=forked")
    a, b = (torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (ours, theirs))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert {f.name for f in ours.iterdir()} == {f.name for f in theirs.iterdir()}


def test_a_killed_job_touches_no_other(worker):
    names = ("001-killed", "002-stopped")
    jobs = [start(worker, name, *LONG, f"run.dir={name}") for name in names]
    until(lambda: all("epoch 2/" in log.read_text() for _, log in jobs), "the jobs do not train")
    threads = {file.read_text().strip() for file in Path(f"/proc/{worker[0].process.pid}/task").glob("*/comm")}
    assert threads <= {Path(sys.executable).name, "jemalloc_bg_thd"}, "the worker has begun to compute"
    for name, (job, log) in zip(names, jobs, strict=True):
        assert os.getpgid(job.pid) == job.pid
        assert is_running(Job(1, "x", [], pid=job.pid), worker[1] / name)
        open_files = [os.readlink(f) for f in Path(f"/proc/{job.pid}/fd").iterdir()]
        assert not any("socket" in file for file in open_files)
        assert {os.readlink(f"/proc/{job.pid}/fd/{i}") for i in (1, 2)} == {str(log)}
    (killed, _), (stopped, log) = jobs
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert stopped.poll() is None
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait() == 143
    assert "SIGTERM" in log.read_text()
    assert read_record(worker[1] / "002-stopped").status == "interrupted"


def test_own_modules_are_imported_afresh(worker):
    own = "from tfcli.models.vit import ViT\n\n\nclass Own(ViT):\n    pass\n\n\nprint('This is version', {})\n"
    for version in (1, 2):
        (worker[1] / "own.py").write_text(own.format(version))
        words = [*TINY, "model._target_=own.Own", "trainer.max_epochs=1", f"run.dir=own-{version}"]
        job, log = start(worker, f"own-{version}", "train", *words)
        assert job.wait() == 0, log.read_text()
        assert f"This is version {version}\n" in log.read_text()


def test_a_killed_sweep_leaves_no_process(tmp_path: Path):
    sweep = Program(["train", "-m", *LONG[1:], "seed=0,1", "run.root=runs", "--jobs", "2"], tmp_path)
    try:
        logs = []
        until(lambda: logs.extend(tmp_path.rglob("00*.log")) or len(set(logs)) == 2, "the jobs do not start")
        until(lambda: all("epoch 2/" in log.read_text() for log in logs), "the jobs do not train")
        assert len(sweep.left()) == 4
        sweep.process.kill()
        until(lambda: not sweep.left(), f"{sweep.left()} outlive their sweep")
        assert [read_record(log.with_suffix("")).status for log in sorted(set(logs))] == ["interrupted"] * 2
    finally:
        sweep.kill()


def test_a_killed_worker_loses_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    killed = []
    fork = Worker.fork

    def then_kill(self, *args):
        job = fork(self, *args)
        if job is not None:
            log = next(tmp_path.rglob("001-*.log"))
            until(lambda: "epoch 5/" in log.read_text(), "the job does not train")
            self.process.kill()
            killed.append(job)
        return job

    monkeypatch.setattr(Worker, "fork", then_kill)
    words = [*TINY, "trainer.max_epochs=60", "seed=0"]
    folder = run_sweep("train", words, tmp_path, launch=Launch())
    (job,) = read_state(folder).jobs
    assert (job.status, job.exit_code) == ("finished", 0)
    assert len(killed) == 1  # what goes on is started anew
    commands = (folder / job.name / "command.txt").read_text().splitlines()
    assert [line.split()[1] for line in commands] == ["train", "resume"]
    assert json.loads((folder / "table.json").read_text())["failed"] == []
