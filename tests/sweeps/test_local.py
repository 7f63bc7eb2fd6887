"""Sweeps on this machine, with a stand-in for the verb."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfcli.errors import ConfigError, RunError
from tfcli.sweeps.expand import job_id
from tfcli.sweeps.process import quote
from tfcli.sweeps.runner import Launch, run_in
from tfcli.sweeps.state import read_state
from tfcli.sweeps.sweep import run_sweep
from tfcli.sweeps.table import flat_rows, notes, summarize

CODE = """
import sys
from tfcli.errors import TfcliError
from tfcli.sweeps.runner import Launch
from tfcli.sweeps.sweep import run_sweep
try:
    run_sweep("train", ["seed=0,1"], sys.argv[1], launch=Launch(command=sys.argv[2:]))
except TfcliError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""
VERB = (sys.executable, str(Path(__file__).with_name("verb.py")))


def sweep(root: Path, *overrides: str, **settings) -> Path:
    launch = Launch(command=VERB, **settings)
    return run_sweep("train", ["model=vit", "data=digits", *overrides], root, launch=launch)


def test_all_jobs_run_and_the_table_has_mean_and_spread(tmp_path, capsys):
    folder = sweep(tmp_path, "optim.lr=1e-3,1e-2", "seed=0,1")
    assert folder.parent == tmp_path / "sweep" / "train-vit-digits"
    state = read_state(folder)
    assert [job.status for job in state.jobs] == ["finished"] * 4
    assert state.jobs[0].name == "001-" + job_id(["model=vit", "data=digits", "optim.lr=0.001", "seed=0"])
    assert all((folder / job.name / "results.json").exists() for job in state.jobs)
    assert (folder / f"{state.jobs[0].name}.log").read_text() == "epoch 1\n"
    summary = json.loads((folder / "table.json").read_text())
    assert [row["settings"] for row in summary["rows"]] == [{"optim.lr": "0.001"}, {"optim.lr": "0.01"}]
    accuracy = summary["rows"][0]["metrics"]["test/accuracy"]
    assert accuracy["mean"] == pytest.approx(0.904)
    assert accuracy["std"] == pytest.approx(0.00707, abs=1e-5)
    assert "0.904 ± 0.007" in (folder / "table.md").read_text()
    lines = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    assert float(lines[0]["seconds"]) == pytest.approx(2.5)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 5
    assert (tmp_path / "latest").resolve() == (folder / state.jobs[-1].name).resolve()


def test_failed_jobs_do_not_stop_the_rest(tmp_path):
    folder = sweep(tmp_path, "optim.lr=0.5,0.7,0.01", "seed=0")
    state = read_state(folder)
    assert [(job.status, job.exit_code) for job in state.jobs] == [("failed", 3), ("failed", -9), ("finished", 0)]
    assert state.jobs[0].error == "the loss became NaN at step 3"
    assert "SIGKILL" in state.jobs[1].error
    summary = summarize(folder, state)
    assert summary["failed"][0]["log"].endswith(f"{state.jobs[0].name}.log")
    assert "Traceback" in Path(summary["failed"][0]["log"]).read_text()
    assert "the loss became NaN" in "\n".join(notes(summary))
    assert flat_rows(summary)[-1]["n"] == "0 of 1"


def test_fail_fast_stops_at_the_first(tmp_path):
    state = read_state(sweep(tmp_path, "optim.lr=0.5,0.01", fail_fast=True))
    assert [job.status for job in state.jobs] == ["failed", "pending"]


def test_finished_jobs_are_not_run_again(tmp_path):
    folder = tmp_path / "sweep"
    launch = Launch(command=VERB)
    for rates, count in ((["0.5", "0.01"], 1), (["0.5", "0.01", "0.02"], 2)):  # the second time it is extended
        jobs = [["model=vit", f"optim.lr={rate}"] for rate in rates]
        state = run_in(folder, "train", jobs, swept={"optim.lr": rates}, launch=launch, root=tmp_path)
        assert (state.count("finished"), state.count("failed")) == (count, 1)
    assert [job.number for job in state.jobs] == [1, 2, 3]
    assert state.swept == {"optim.lr": ["0.5", "0.01", "0.02"]}
    assert (folder / f"{state.jobs[1].name}.log").read_text() == "epoch 1\n"
    assert (folder / f"{state.jobs[0].name}.log").read_text().count("Traceback") == 1
    launch = Launch(command=VERB, retry=True)
    state = run_in(folder, "train", [], swept={}, launch=launch, root=tmp_path)
    assert (folder / f"{state.jobs[0].name}.log").read_text().count("Traceback") == 2
    assert [read_state(folder).count(s) for s in ("finished", "failed", "pending")] == [2, 1, 0]


@pytest.fixture
def running(tmp_path):
    """A sweep of two waiting jobs in a process of its own, and its running job's process number."""
    waits = tmp_path / "pid"
    environment = {**os.environ, "SWEEP_TEST_WAIT": str(waits)}
    command = [sys.executable, "-c", CODE, str(tmp_path), *VERB]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    stop = time.monotonic() + 120
    while not waits.exists() or not waits.read_text():
        assert time.monotonic() < stop
        time.sleep(0.05)
    yield process, int(waits.read_text().split()[0])
    process.kill()
    process.wait()
    process.stderr.close()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_and_recorded(tmp_path, running, signum):
    process, job = running
    process.send_signal(signum)
    said = process.stderr.read()
    assert process.wait(timeout=120) == 128 + signum
    assert "0 jobs finished, 2 left" in said
    with pytest.raises(ProcessLookupError):
        os.kill(job, 0)
    (folder,) = (tmp_path / "sweep" / "train-vit-digits").iterdir()
    assert [job.status for job in read_state(folder).jobs] == ["interrupted", "pending"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for a signal at the parent's death")
def test_a_job_ends_when_its_sweep_is_killed(tmp_path, running):
    process, _ = running
    process.kill()
    process.wait()
    (folder,) = (tmp_path / "sweep" / "train-vit-digits").iterdir()
    record = folder / read_state(folder).jobs[0].name / "results.json"
    stop = time.monotonic() + 120
    while not record.exists():
        assert time.monotonic() < stop
        time.sleep(0.05)
    assert json.loads(record.read_text())["status"] == "interrupted"


def test_a_slip_starts_nothing(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean `vit`"):
        sweep(tmp_path, "model=vit,vti", "seed=0,1")
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        sweep(tmp_path, "optim.lr=0.1,abc")
    assert not (tmp_path / "sweep").exists()


def test_swept_groups_name_the_folder_and_the_root_is_the_configs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = ["model=vit,vit_s16", "data=digits", "run.root=elsewhere", "model.patch_size=2"]
    folder = run_sweep("train", typed, launch=Launch(command=VERB))
    assert folder.parent.parent == Path("elsewhere/sweep")
    assert folder.parent.name == "train-vit_vit_s16-digits"
    assert run_sweep("train", typed, launch=Launch(command=VERB)) != folder


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        sweep(tmp_path / "file", "seed=0,1")


@pytest.mark.parametrize("path", ["outputs/a-b_c.d", "my runs/it's, here", "a=b", "x[1]{2}"])
def test_paths_survive_hydras_grammar(path):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(f"run.dir={quote(path)}").value() == path
