"""Sweeps at a real SLURM: one node on loopback, started for these tests."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tfcli.cli.app import app
from tfcli.errors import ConfigError, install
from tfcli.sweeps.options import split
from tfcli.sweeps.runner import Launch
from tfcli.sweeps.slurm import Slurm
from tfcli.sweeps.state import Job, State, read_state
from tfcli.sweeps.sweep import retry, run_sweep

HERE = Path(__file__).parent
VERB = [sys.executable, str(HERE / "verb.py")]
WORDS = ["launcher=slurm", "launcher.timeout_min=5", "launcher.jobs=2"]
CODE = """
import sys
from tfcli.sweeps.options import split
from tfcli.sweeps.runner import Launch
from tfcli.sweeps.sweep import run_sweep
launch = Launch(launcher=split(sys.argv[2].split())[1], command=sys.argv[4:])
run_sweep("train", sys.argv[3].split(), sys.argv[1], launch=launch)
"""
spec = importlib.util.spec_from_file_location("loopback_slurm", HERE / "slurm.py")
loopback = importlib.util.module_from_spec(spec)
spec.loader.exec_module(loopback)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    pytest.importorskip("submitit", reason="submitit is not installed (pip install 'tfcli[slurm]')")
    before = dict(os.environ)
    try:
        with loopback.slurm(tmp_path_factory.mktemp("slurm")) as environment:
            os.environ.update(environment)
            yield
    except loopback.Unavailable as error:
        pytest.skip(f"SLURM cannot start here: {error}")
    finally:
        os.environ.clear()
        os.environ.update(before)


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def launch() -> Launch:
    return Launch(launcher=split(WORDS)[1], command=VERB)


@pytest.mark.slow
def test_jobs_of_an_array_and_one_that_fails(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SWEEP_TEST_SAY", "1")
    words = ["model=vit", "data=digits", "optim.lr=0.01,0.5", "seed=0,1"]
    folder = run_sweep("train", words, tmp_path, launch=launch())
    state = read_state(folder)
    assert [job.status for job in state.jobs] == ["finished", "finished", "failed", "failed"]
    assert {job.error for job in state.jobs[2:]} == {"the loss became NaN at step 3"}
    assert {job.slurm for job in state.jobs} == {f"{state.jobs[0].slurm[:-2]}_{i}" for i in range(4)}  # one array
    assert all(job.seconds and job.host for job in state.jobs)
    assert "2 of 4 jobs failed" in CliRunner().invoke(app, ["sweep", "table", str(folder)]).stdout
    assert f"WANDB_RUN_GROUP={folder.name}\n" in (folder / f"{state.jobs[0].name}.log").read_text()
    (tmp_path / "mended").touch()
    monkeypatch.setenv("SWEEP_TEST_MENDED", str(tmp_path / "mended"))
    arrays = {job.slurm for job in state.jobs[:2]}
    state = retry(folder, launch=Launch(command=VERB))  # where it ran before
    assert state.count("finished") == 4
    assert {job.slurm for job in state.jobs[:2]} == arrays
    assert not arrays & {job.slurm for job in state.jobs[2:]}


@pytest.mark.slow
def test_jobs_outlive_the_parent_and_a_cancelled_one_goes_on(cluster: None, tmp_path: Path):
    gate = tmp_path / "gate"
    words = ["model=vit", "data=digits", "seed=0,1"]
    command = [sys.executable, "-c", CODE, str(tmp_path), " ".join(WORDS), " ".join(words), *VERB]
    parent = subprocess.Popen(command, env={**os.environ, "SWEEP_TEST_WAIT": str(gate)})
    until(lambda: gate.exists() and len(gate.read_text().split()) == 2, "the jobs do not start")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    (folder,) = (tmp_path / "sweep" / "train-vit-digits").iterdir()
    state = read_state(folder)
    assert state.count("running") == 2
    subprocess.run(["scancel", state.jobs[0].slurm], check=True)
    until(lambda: read_state(folder).count("interrupted") == 1, "the cancelled job does not end")
    gate.with_suffix(".open").touch()
    until(lambda: read_state(folder).count("finished") == 1, "the other one does not")
    assert run_sweep("train", words, tmp_path, launch=launch()) == folder
    assert read_state(folder).count("finished") == 2
    logs = [(folder / f"{job.name}.log").read_text() for job in state.jobs]
    assert ["goes on" in log for log in logs] == [True, False]


def test_a_job_written_after_slurm_was_asked_has_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\ncat {tmp_path}/queue\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "queue").touch()
    jobs = [Job(1, "a", [], "running", slurm="7_0"), Job(2, "b", [], "running", slurm="7_1")]
    State("train", [], {}, jobs).write(tmp_path)
    jobs[1].write(tmp_path)
    jobs[0].write(tmp_path)
    assert [job.status for job in read_state(tmp_path).jobs] == ["interrupted"] * 2
    (tmp_path / "queue").write_text("7_0\n7_1\n")  # submitted now, within the seconds for which an answer holds
    jobs[0].write(tmp_path)
    jobs[1].write(tmp_path)
    assert [job.status for job in read_state(tmp_path).jobs] == ["running"] * 2


def test_what_is_missing_is_said_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="no `sbatch` on this machine"):
        run_sweep("train", ["data=digits", "seed=0,1"], tmp_path, launch=launch())
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=re.escape(install("slurm"))):
        Slurm()
    assert not list(tmp_path.iterdir())
