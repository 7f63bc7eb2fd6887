"""Searches: Optuna proposes, ordinary jobs run, several workers share one study."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tfcli.cli.app import app
from tfcli.errors import ConfigError, install
from tfcli.sweeps.options import split
from tfcli.sweeps.runner import Launch
from tfcli.sweeps.search import Search, default_metric, space
from tfcli.sweeps.state import read_state
from tfcli.sweeps.sweep import extend, run_sweep

optuna = pytest.importorskip("optuna", reason="optuna is not installed (pip install 'tfcli[search]')")
VERB = [sys.executable, str(Path(__file__).with_name("verb.py"))]
WORDS = ["model=vit", "data=digits", "optim.lr=tag(log,interval(1e-3,0.3))", "seed=range(0,3)"]
CODE = """
import sys
from tfcli.sweeps.options import split
from tfcli.sweeps.runner import Launch
from tfcli.sweeps.sweep import run_sweep
launch = Launch(search=split(["search=optuna", "search.trials=5"])[2], command=sys.argv[3:])
run_sweep("train", sys.argv[2].split(), sys.argv[1], launch=launch)
"""


def search(*words: str, **settings) -> Launch:
    return Launch(search=split(["search=optuna", *words])[2], command=VERB, **settings)


def study(folder: Path):
    return optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'study.db'}")


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("optim.lr=interval(0.1,1)", optuna.distributions.FloatDistribution(0.1, 1)),
        ("optim.lr=tag(log,interval(1e-4,1e-2))", optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)),
        ("model.depth=int(interval(2,8))", optuna.distributions.IntDistribution(2, 8)),
        ("model.depth=range(2,8,3)", optuna.distributions.IntDistribution(2, 5, step=3)),
        ("pos=none,learned", optuna.distributions.CategoricalDistribution(["none", "learned"])),
        ("pos=choice(none,learned)", optuna.distributions.CategoricalDistribution(["none", "learned"])),
        ("optim=glob(adamw*)", optuna.distributions.CategoricalDistribution(["adamw", "adamw_clip"])),
    ],
)
def test_hydras_grammar_says_what_is_searched(word, expected):
    fixed, found = space(["model=vit", word])
    assert fixed == ["model=vit"]
    assert list(found.values()) == [expected]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=vit"], "needs a key to vary"),
        (["optim.lr=tag(log,interval(0,1))"], "not a range to search"),
        (["optim.lr=interval(2,1)"], "not a range to search"),
    ],
)
def test_what_cannot_be_searched(words, said):
    with pytest.raises(ConfigError, match=said):
        space(words)


def test_the_test_set_chooses_nothing():
    assert default_metric({"test/accuracy": 1, "val/accuracy": 1}, "test/accuracy") == "val/accuracy"
    assert default_metric({"linear/accuracy": 1}, "linear/accuracy") == "linear/accuracy"
    assert default_metric({}, None) is None


def test_a_search_is_ordinary_jobs_and_goes_on_with_more_trials(tmp_path: Path):
    folder = run_sweep("train", WORDS, tmp_path, launch=search("search.trials=4", jobs=2))
    state = read_state(folder)
    assert [job.status for job in state.jobs] == ["finished"] * 4
    told = study(folder)
    assert told.user_attrs["metric"] == "val/accuracy"
    for trial, job in zip(told.trials, state.jobs, strict=True):
        settings = dict(text.partition("=")[::2] for text in job.overrides)
        assert trial.params["optim.lr"] == pytest.approx(float(settings["optim.lr"]), rel=1e-5)
        record = json.loads((folder / job.name / "results.json").read_text())
        assert trial.value == record["metrics"]["val/accuracy"]
        assert trial.user_attrs["job"] == job.name
    assert len({trial.params["optim.lr"] for trial in told.trials}) == 4
    assert run_sweep("train", WORDS, tmp_path, launch=search("search.trials=6")) == folder
    assert len(study(folder).trials) == read_state(folder).count("finished") == 6
    summary = json.loads(CliRunner().invoke(app, ["sweep", "table", str(folder), "--json"]).stdout)
    assert summary["keys"] == ["optim.lr"]
    best = study(folder).best_trial
    assert (summary["best"]["job"], summary["best"]["value"]) == (best.user_attrs["job"], pytest.approx(best.value))
    shown = CliRunner().invoke(app, ["sweep", "show", str(folder)], catch_exceptions=False).stdout
    assert f"best by val/accuracy, {best.value:.3f}: optim.lr=" in shown
    with pytest.raises(ConfigError, match="is a search"):
        extend(folder, ["seed=7"])


def test_a_failed_trial_is_told_and_does_not_stop_the_search(tmp_path: Path):
    words = ["model=vit", "data=digits", "optim.lr=0.5,0.01", "seed=range(0,50)"]
    folder = run_sweep("train", words, tmp_path, launch=search("search.trials=6", "search.sampler=random"))
    state = read_state(folder)
    states = [trial.state.name for trial in study(folder).trials]
    assert [{"finished": "COMPLETE", "failed": "FAIL"}[job.status] for job in state.jobs] == states
    assert {"COMPLETE", "FAIL"} == set(states)


def test_two_workers_share_a_study_and_a_killed_one_loses_its_trial_only(tmp_path: Path):
    gate = tmp_path / "gate"
    command = [sys.executable, "-c", CODE, str(tmp_path), " ".join(WORDS), *VERB]
    environment = {**os.environ, "SWEEP_TEST_WAIT": str(gate)}
    workers = []
    for count in (1, 2):  # the second finds the study that the first has made
        workers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment))
        until(lambda count=count: gate.exists() and len(gate.read_text().split()) == count, "a worker does not start")
    (folder,) = (tmp_path / "sweep" / "train-vit-digits").iterdir()
    assert read_state(folder).count("running") == 2
    victim, lost = workers[0], study(folder).trials[0]
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    gate.with_suffix(".open").touch()
    assert workers[1].wait(timeout=120) == 0
    trials = study(folder).trials
    assert sum(trial.state.name == "COMPLETE" for trial in trials) == 5
    again = [trial for trial in trials if trial.params == lost.params]
    assert [trial.state.name for trial in again] in (["FAIL", "COMPLETE"], ["COMPLETE"])  # or it had just finished
    assert len({trial.user_attrs["worker"] for trial in trials}) == 2
    state = read_state(folder)
    assert state.count("finished") == len(state.jobs) == 5


def test_what_is_missing_or_wrong_is_said_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="Did you mean `optuna`"):
        split(["search=optna"])
    with pytest.raises(ConfigError, match="needs `search=`, for instance `search=optuna`"):
        split(["search.trials=3"])
    with pytest.raises(ConfigError, match=r"Did you mean `search\.trials`"):
        split(["search=optuna", "search.trails=3"])
    with pytest.raises(ConfigError, match=r"search\.sampler"):
        split(["search=optuna", "search.sampler=grid"])
    with pytest.raises(ConfigError, match=r"optim\.lx"):
        run_sweep("train", ["data=digits", "optim.lx=interval(0.1,1)"], tmp_path, launch=search())
    with pytest.raises(ConfigError, match="search=optuna"):
        run_sweep("train", ["data=digits", "optim.lr=interval(0.1,1)"], tmp_path, launch=Launch(command=VERB))
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=re.escape(install("search"))):
        Search()
    assert not list(tmp_path.iterdir())
