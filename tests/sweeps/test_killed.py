"""Sweeps whose parent is killed: what is finished is kept, the rest goes on, and what failed is named and retried."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tfcli.cli.app import app
from tfcli.engine.runs.folder import locked
from tfcli.errors import ConfigError, RunError
from tfcli.sweeps.find import all_sweeps, find_sweep
from tfcli.sweeps.runner import Launch
from tfcli.sweeps.state import Job, State, read_state
from tfcli.sweeps.sweep import extend, retry, run_sweep
from tfcli.sweeps.watch import SweepDisplay, time_left

VERB = [sys.executable, str(Path(__file__).with_name("verb.py"))]
CODE = """
import sys
from tfcli.sweeps.runner import Launch
from tfcli.sweeps.sweep import run_sweep
run_sweep("train", sys.argv[2].split(), sys.argv[1], launch=Launch(jobs=3, command=sys.argv[3:]))
"""
TWELVE = ["model=vit", "data=digits", "optim.lr=0.01,0.02,0.03,0.04,0.5,0.06", "seed=0,1"]
"""Twelve jobs, of which those with a rate of 0.5 fail."""


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A sweep of twelve jobs, two of which fail, three at a time, whose parent was killed while two or three ran."""
    work = tmp_path_factory.mktemp("killed")
    gate = work / "gate"
    environment = {**os.environ, "SWEEP_TEST_WAIT": str(gate), "SWEEP_TEST_FREE": "4"}
    command = [sys.executable, "-c", CODE, str(work), " ".join(TWELVE), *VERB]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    until(lambda: gate.exists() and len(gate.read_text().split()) == 7, "the jobs do not start")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    return work, find_sweep("latest", root=work)


def call(*words: str) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_same_command_goes_on_and_retry_runs_exactly_the_failed(
    killed: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    work, folder = killed
    until(lambda: not read_state(folder).count("running"), "jobs outlive their parent")
    before = read_state(folder)
    assert (before.count("finished"), before.count("interrupted"), before.count("pending")) == (4, 3, 5)
    stopped = {job.id for job in before.jobs if job.status == "interrupted"}
    kept = {job.name: stamp(folder / job.name / "results.json") for job in before.jobs if job.status == "finished"}

    assert run_sweep("train", TWELVE, work, launch=Launch(jobs=2, command=VERB)) == folder
    assert capsys.readouterr().err.startswith("continued: 4 of 12 jobs finished")
    state = read_state(folder)
    assert (state.count("finished"), state.count("failed"), len(state.jobs)) == (10, 2, 12)
    assert {name: stamp(folder / name / "results.json") for name in kept} == kept
    for job in state.jobs:  # none ran twice; those that were stopped went on from their checkpoint
        log = (folder / f"{job.name}.log").read_text()
        assert (log.count("epoch 1"), log.count("goes on")) == (1, job.id in stopped)

    shown = call("sweep", "show", "latest", "--root", str(work))
    assert "12 jobs · 10 finished · 2 failed" in shown
    assert shown.count("failed: the loss became NaN at step 3") == 2
    told = json.loads(call("sweep", "show", folder.name, "--root", str(work), "--json"))
    failed = [job for job in told["jobs"] if job["status"] == "failed"]
    assert [job["varied"] for job in failed] == ["optim.lr=0.5 seed=0", "optim.lr=0.5 seed=1"]
    assert all("Traceback" in Path(job["log"]).read_text() for job in failed)
    assert json.loads(call("sweep", "ls", "--root", str(work), "--json"))[0]["failed"] == 2
    assert "2 of 12 jobs failed" in call("sweep", "table", "latest", "--root", str(work))

    (work / "mended").touch()
    monkeypatch.setenv("SWEEP_TEST_MENDED", str(work / "mended"))
    before_retry = {job["job"]: stamp(Path(job["log"])) for job in told["jobs"]}
    state = retry(folder, launch=Launch(jobs=2, command=VERB))
    assert state.count("finished") == 12
    ran = [job["job"] for job in told["jobs"] if stamp(Path(job["log"])) != before_retry[job["job"]]]
    assert ran == [job["job"] for job in failed]
    assert run_sweep("train", TWELVE, work, launch=Launch(jobs=4, command=VERB)) != folder  # it was all done


def test_a_sweep_is_extended(tmp_path: Path):
    launch = Launch(command=VERB)
    folder = run_sweep("train", ["model=vit", "data=digits", "optim.lr=0.01", "seed=0,1"], tmp_path, launch=launch)
    first = {job.id for job in read_state(folder).jobs}
    state = extend(folder, ["seed=2"], launch)
    assert state.swept == {"seed": ["0", "1", "2"]}
    state = extend(folder, ["optim.lr=0.02"], launch)
    assert state.count("finished") == len(state.jobs) == 6
    assert first < {job.id for job in state.jobs}
    summary = json.loads((folder / "table.json").read_text())
    assert [(row["settings"], row["n"]) for row in summary["rows"]] == [
        ({"optim.lr": "0.01"}, 3),
        ({"optim.lr": "0.02"}, 3),
    ]
    with pytest.raises(ConfigError, match="keeps its settings"):
        retry(folder, ["seed=4"], launch)
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        extend(folder, ["optim.lx=0.02"], launch)


def test_one_process_at_a_time(tmp_path: Path):
    folder = run_sweep("train", ["data=digits", "seed=0,1"], tmp_path, launch=Launch(command=VERB))
    with locked(folder), pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
        retry(folder, launch=Launch(command=VERB))
    assert retry(folder, launch=Launch(command=VERB)).count("finished") == 2


def test_jobs_share_the_cores_and_get_a_gpu_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SWEEP_TEST_SAY", "1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6")
    monkeypatch.setattr("tfcli.sweeps.local.cores", lambda: 8)
    folder = run_sweep("train", ["data=digits", "seed=0,1,2"], tmp_path, launch=Launch(jobs=3, command=VERB))
    logs = [(folder / f"{job.name}.log").read_text() for job in read_state(folder).jobs]
    assert sorted(log.partition("CUDA_VISIBLE_DEVICES=")[2][0] for log in logs) == ["3", "5", "6"]
    assert all("OMP_NUM_THREADS=2\n" in log and f"WANDB_RUN_GROUP={folder.name}\n" in log for log in logs)
    folder = run_sweep("train", ["data=digits", "seed=0,1"], tmp_path, launch=Launch(command=VERB))
    assert (
        "CUDA_VISIBLE_DEVICES=3,5,6\nOMP_NUM_THREADS=None\n"
        in (folder / f"{read_state(folder).jobs[0].name}.log").read_text()
    )


def test_names_of_sweeps(tmp_path: Path):
    with pytest.raises(RunError, match="nor any other below"):
        find_sweep("latest", root=tmp_path)
    launch = Launch(command=VERB)
    first, second = (run_sweep("train", ["data=digits", f"seed={i}"], tmp_path, launch=launch) for i in (0, 1))
    assert len(all_sweeps(tmp_path)) == 2
    assert find_sweep("train-vit-digits", root=tmp_path) in (first, second)
    assert find_sweep(first.name[16:22], root=tmp_path) == first
    assert find_sweep(str(second / "sweep.json"), root=tmp_path) == second
    with pytest.raises(RunError, match="may mean 2 sweeps"):
        find_sweep("20", root=tmp_path)
    with pytest.raises(RunError, match="Did you mean `train-vit-digits`"):
        find_sweep("train-vit-digit", root=tmp_path)


def test_the_time_left_is_that_of_the_finished_jobs_times_what_is_left():
    jobs = [
        Job(1, "", [], "finished", seconds=10.0),
        Job(2, "", [], "running", started=94.0),
        *(Job(i, "", []) for i in (3, 4, 5)),
    ]
    assert time_left(jobs[2:], [], total=3, slots=1, now=100.0) is None
    assert time_left(jobs, jobs[1:2], total=5, slots=1, now=100.0) == pytest.approx(34)
    assert time_left(jobs, jobs[1:2], total=5, slots=2, now=100.0) == pytest.approx(20)


@pytest.mark.parametrize("word", ["-m", "launcher=slurm", "search=optuna"])
def test_a_config_is_shown_of_one_job_only(word: str):
    with pytest.raises(ConfigError, match="show one job"):
        call("train", word, "seed=0,1", "--cfg", "job")


def test_the_line_below_the_live_table(tmp_path: Path):
    jobs = [Job(i, f"{i}", [f"seed={i}"], status) for i, status in enumerate(("finished", "failed", "pending"), 1)]
    jobs[0].seconds = 60.0
    watch = SweepDisplay(State("train", [], {"seed": []}, jobs), tmp_path, slots=1, total=5)
    said = watch.summary([])
    assert said.startswith("5 jobs · 1 finished · 1 failed · 3 pending · ")
    assert said.endswith(" · about 3:00 min left")
    assert "left" not in SweepDisplay(State("train", [], {}, jobs[1:]), tmp_path, slots=1).summary([])


def stamp(file: Path) -> int:
    return file.stat().st_mtime_ns
