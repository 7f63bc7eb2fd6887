"""Ablations: what is wrong with a file is said in a line, all that are shipped compose, and one runs end to end."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, program, tfcli

from tfcli.errors import ConfigError
from tfcli.sweeps.ablate import estimate, in_words, plan
from tfcli.sweeps.ablation import load, names
from tfcli.sweeps.state import read_state

TINY = """# Positions of a tiny ViT.
base: model=vit model.width=32 model.depth=1 model.heads=4 trainer.precision=32 logger=csv data.baseline=false
axes: [position, where]
rows: {none: pos=none, table: pos=learned}
columns: {stem: pos.at=stem, every layer: pos.at=every}
na: {none: {every layer: nothing to add}, table: {every layer: left out}}
default: [none, stem]
budgets:
  minutes:
    seeds: [0, 1]
    seconds: 10
    overrides: data=digits data.limit_train=200 trainer.max_epochs=2 data.workers=0
published: {source: A paper, protocol: theirs, differs: the data, values: {none: {stem: 0.614}, table: {stem: 0.642}}}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def written(text: str, name: str = "mine") -> str:
        file = tmp_path / "conf" / "ablation" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return name

    return written


def test_cells_are_the_grid_without_what_cannot_be(write):
    ablation = load(write(TINY))
    cells = ablation.cells(ablation.budget("minutes"))
    assert [(cell.name, cell.why, len(cell.jobs)) for cell in cells] == [
        ("none / stem", None, 2),
        ("none / every layer", "nothing to add", 0),
        ("table / stem", None, 2),
        ("table / every layer", "left out", 0),
    ]
    assert cells[2].jobs[1][-3:] == ["pos=learned", "pos.at=stem", "seed=1"]


def test_what_is_typed_reaches_every_cell_and_wins(write):
    ablation = load(write(TINY))
    cells = ablation.cells(ablation.budget("minutes"), ["data=cifar10", "seed=7,8,9", "trainer.max_epochs=9"])
    for cell in cells:
        assert len(cell.jobs) == (0 if cell.why else 3)
        assert all({"data=cifar10", "trainer.max_epochs=9"} <= set(job) for job in cell.jobs)
        assert all(len({text.partition("=")[0] for text in job}) == len(job) for job in cell.jobs)


def test_a_question_keeps_its_data_and_a_budget_its_columns(write):
    text = TINY + "questions: {what: {overrides: data=digits}, where: {overrides: data=shapes, keeps: data}}\n"
    text = text.replace("seconds: 10", "seconds: {what: 10, where: 20}\n    columns: [stem]").replace(
        "data=digits ", ""
    )
    ablation = load(write(text.replace("data.limit_train=200 ", "")))
    cells = ablation.cells(ablation.budget("minutes"), ["data=cifar10", "data.root=x", "optim.lr=1e-2"])
    assert [(c.question, c.column) for c in cells] == [("what", "stem")] * 2 + [("where", "stem")] * 2
    assert {"data=cifar10", "data.root=x", "optim.lr=0.01"} <= set(cells[0].jobs[0])
    assert {"data=shapes", "optim.lr=0.01"} <= set(cells[-1].jobs[0])
    assert not {"data=cifar10", "data.root=x"} & set(cells[-1].jobs[0])


def test_rows_may_be_written_in_hydras_grammar(write):
    rows = "rows:\n  - model.heads=1,2\n  - many: model.heads=4 optim.lr=1e-2\n"
    text = f"# Heads.\n{rows}budgets: {{minutes: {{seconds: 1}}}}\n"
    ablation = load(write(text))
    assert ablation.rows == {"1": ["model.heads=1"], "2": ["model.heads=2"], "many": ["model.heads=4", "optim.lr=1e-2"]}
    assert ablation.default == ("1", "")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("axes:", "axis:", "has no `axis`. Did you mean `axes`"),
        ("default: [none, stem]", "default: [none, every layer]", "there is no cell `default:"),
        ("default: [none, stem]", "default: [non, stem]", r"there is no cell .*Cells: \[none, stem\]"),
        ("na: {none", "na: {nine", "there is no `nine`. Did you mean `none`"),
        ("seeds: [0, 1]", "seeds: 3", "list of whole numbers"),
        ("seconds: 10", "seconds: 0", "greater than 0"),
        ("seconds: 10", "second: 10", "has no `second`. Did you mean `seconds`"),
        ("none: pos=none", "none: none", "overrides are written key=value"),
        ("values: {none: {stem: 0.614}", "values: {none: {stem: a}", "a published value is a number"),
        ("table: {stem: 0.642}", "tables: {stem: 0.642}", "no `tables`. Did you mean `table`"),
        ("rows: {none: pos=none, table: pos=learned}", "rows: pos=none", "has one value"),
        ("budgets:", "verb: trian\nbudgets:", "Did you mean `train`"),
        ("pos=learned", "pos=lerned", "cell `table / stem`: there is no position `lerned`. Did you mean `learned`"),
        ("pos.at=stem", "pos.att=stem", "`pos.att` is not a setting. Did you mean `pos.at`"),
        ("model.depth=1", "model.depth=1,2", "several values"),
        ("rows:", "rows: [", "not YAML"),
    ],
)
def test_a_slip_in_the_file_is_one_line_before_anything_runs(write, old, new, said):
    assert old in TINY
    with pytest.raises(ConfigError, match=said) as found:
        plan(write(TINY.replace(old, new)), None, [])
    assert "\n" not in str(found.value)
    assert "mine.yaml" in str(found.value)
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("name", "budget", "typed", "said"),
    [
        ("mnie", None, [], "Did you mean `mine`"),
        ("mine", "minuts", [], "Did you mean `minutes`"),
        ("mine", None, ["optim.lr=1e-2,1e-3"], "grid is in its file"),
        ("mine", None, ["seed=a"], "whole number"),
        ("mine", None, ["optim.lrr=1"], "Did you mean `optim.lr`"),
    ],
)
def test_a_slip_in_the_command(write, name, budget, typed, said):
    write(TINY)
    with pytest.raises(ConfigError, match=said):
        plan(name, budget, typed)


@pytest.mark.parametrize("name", [p.stem for p in sorted((ROOT / "conf" / "ablation").glob("*.yaml"))])
@pytest.mark.slow
def test_every_shipped_ablation_composes_every_cell(name, tmp_path, monkeypatch):
    """Of the budget of minutes; of others the cells that differ from the first in one thing."""
    monkeypatch.chdir(tmp_path)
    assert name in names()
    ablation = load(name)
    assert ablation.description
    for budget in ablation.budgets:
        cells = ablation.cells(ablation.budget(budget))
        runs = [cell for cell in cells if not cell.why]
        jobs = {tuple(sorted(job)) for cell in runs for job in cell.jobs}
        assert len(jobs) == sum(len(cell.jobs) for cell in runs), "two cells are one job"
        first = runs[0]
        if budget != "minutes":  # `plan` checks that one whole
            ablation.check([cell for cell in runs if _differs(cell, first) <= 1])
    planned = plan(name, "minutes", [])
    estimated = estimate(planned, 2)
    assert estimated["jobs"] == estimated["left"] == len(planned.jobs)
    assert estimated["seconds"] <= 20 * 60, "stated to take more than 20 minutes"


def _differs(one, other) -> int:
    return sum(getattr(one, part) != getattr(other, part) for part in ("question", "row", "column"))


def ablate(work: Path, *words: str):
    return program("ablate", "mine", *words, cwd=work, timeout=600)


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A folder with an ablation that was killed after its first job."""
    work = tmp_path_factory.mktemp("ablation")
    (work / "conf" / "ablation").mkdir(parents=True)
    (work / "conf" / "ablation" / "mine.yaml").write_text(TINY)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tfcli", "ablate", "mine"]
    process = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder, stop = work / "outputs" / "ablate" / "mine-minutes", time.monotonic() + 300
    while not (folder.exists() and list(folder.glob("001-*/results.json"))):
        assert process.poll() is None
        assert time.monotonic() < stop
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while not read_state(folder).count("finished"):  # the job closes what it has open after its record is written
        assert time.monotonic() < stop
        time.sleep(0.2)
    return work


@pytest.mark.slow
def test_an_ablation_killed_is_continued_and_its_table_has_it_all(killed):
    folder = killed / "outputs" / "ablate" / "mine-minutes"
    planned = ablate(killed, "--plan", "--json")
    rest = json.loads(planned.stdout)
    assert (rest["jobs"], rest["rows"][0]["from"]) == (4, f"{rest['finished']} finished jobs")
    assert rest["finished"] >= 1
    first = next(folder.glob("001-*/results.json"))
    before = first.stat().st_mtime_ns
    done = ablate(killed, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert first.stat().st_mtime_ns == before, "a finished job ran again"
    state = read_state(folder)
    assert [job.status for job in state.jobs] == ["finished"] * 4
    summary = json.loads((folder / "table.json").read_text())
    none, _, table, _ = summary["cells"]
    runs = [json.loads((folder / job.name / "results.json").read_text()) for job in state.jobs]
    scores = [r["metrics"]["test/accuracy"] for r in runs if "pos=learned" in r["overrides"]]
    assert table["mean"] == pytest.approx(sum(scores) / 2)
    assert sorted(table["values"]) == pytest.approx(sorted(scores))
    assert table["difference"] == pytest.approx(table["mean"] - none["mean"])
    assert table["low"] < table["difference"] < table["high"]
    assert 0 <= table["p"] <= 1
    assert "360 images, 2 seeds" in table["tested"]
    assert (none["published"], table["published"]) == (0.614, 0.642)
    rows = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    assert [row["published"] for row in rows] == ["0.614", "", "0.642", ""]
    text = (folder / "table.md").read_text()
    assert "0.642" in text
    assert "A paper" in text
    assert "n/a" in text
    assert (folder / "table.png").stat().st_size > 5000
    assert re.search(r"table +[\d.]+ ± [\d.]+ .*0\.642", done.stdout)
    again = tfcli("sweep", "table", "mine-minutes", cwd=killed)
    assert again.stdout == done.stdout


@pytest.mark.slow
def test_failed_cells_are_listed_and_the_rest_is_done(killed):
    done = ablate(killed, "seed=0", "optim.lr=1e9", "trainer.max_epochs=1")
    assert done.returncode == 4
    assert "2 of 2 jobs failed" in done.stdout
    assert "loss" in done.stdout
    assert "Traceback" not in done.stderr


def test_words_of_a_plan():
    row = {"cells": 12, "seeds": 3}
    found = {"rows": [row], "jobs": 36, "finished": 9, "failed": 0, "left": 27, "seconds": 840.0}
    assert (
        in_words(found, 2) == "12 cells x 3 seeds = 36 jobs · 9 done before, 27 to run · about 14:00 min on 2 processes"
    )


def test_a_file_is_yaml_that_reads_itself():
    """The example in the module's docstring is one that the reader takes."""
    from tfcli.sweeps import ablation

    text = "\n".join(line.strip() for line in ablation.__doc__.split("\n\n")[1].splitlines())
    text = (
        re.sub(r"  +(what|label|cells|the cell|may be|several).*", "", text)
        .replace("source: ...", "source: a")
        .replace("protocol: ..., differs: ...", "protocol: b, differs: c")
    )
    assert set(yaml.safe_load(text)) <= ablation.KEYS
