"""Which jobs a command with several values means."""

from __future__ import annotations

import pytest

from tfcli.errors import ConfigError
from tfcli.sweeps.expand import expand, job_id


def test_all_combinations_the_last_key_fastest():
    grid = expand(["model=vit", "optim.lr=1e-3,3e-4", "seed=0,1"])
    assert grid.jobs == [
        ["model=vit", "optim.lr=0.001", "seed=0"],
        ["model=vit", "optim.lr=0.001", "seed=1"],
        ["model=vit", "optim.lr=0.0003", "seed=0"],
        ["model=vit", "optim.lr=0.0003", "seed=1"],
    ]
    assert grid.swept == {"optim.lr": ["0.001", "0.0003"], "seed": ["0", "1"]}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("seed=range(0,3)", ["0", "1", "2"]),
        ("seed=range(3,0,-1)", ["3", "2", "1"]),
        ("seed=choice(4,5)", ["4", "5"]),
        ("optim=glob(*)", ["adamw", "adamw_clip", "sgd"]),
        ("pos=glob([s*,l*],exclude=learn*)", ["sinusoidal"]),
        ("data.augment.scale=[0.1,1],[0.5,1]", ["[0.1,1]", "[0.5,1]"]),
    ],
)
def test_hydras_grammar(text, values):
    (found,) = expand([text]).swept.values()
    assert found == values


def test_one_value_is_one_job_and_quoted_commas_stay():
    assert expand(["seed=3"]).jobs == [["seed=3"]]
    assert len(expand(["model.note='a,b'"]).jobs) == 1
    assert expand(["~trainer.clip"]).jobs == [["~trainer.clip"]]
    assert expand([]).jobs == [[]]


def test_a_jobs_own_overrides_hold_no_sweep():
    for job in expand(["model.note=choice('a,b',c)", "seed=0,1"]).jobs:
        assert expand(job).jobs == [job]


def test_a_job_has_one_name_however_it_was_typed():
    first = expand(["optim.lr=1e-3", "seed=0,1"]).jobs[0]
    second = expand(["seed=0", "optim.lr=1e-3,3e-4"]).jobs[0]
    assert job_id(first) == job_id(second)


def test_repeated_jobs_and_keys():
    grid = expand(["seed=0,0,1"])
    assert (grid.jobs, grid.repeated) == ([["seed=0"], ["seed=1"]], 1)
    assert expand(["seed=0,1", "seed=3"]).jobs == [["seed=3"]]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["seed=range(0,0)"], "0 jobs"),
        (["optim=glob(zz*)"], "0 jobs: `optim`"),
        (["seed=range(0,100)", "data.seed=range(0,11)"], r"1,100 jobs \(100 seed x 11 data.seed\)"),
        (["seed=range(0,10000000000)"], "10,000,000,000 values"),
        (["seed=range(0,5,0)"], "step"),
        (["optim.lr=interval(0,1)"], "interval"),
        (["run.dir=a,b"], "run.root="),
        (["seed=0,"], "`seed=0,` is not a setting"),
        (["vit"], "not a setting"),
    ],
)
def test_what_is_no_grid(overrides, said):
    with pytest.raises(ConfigError, match=said):
        expand(overrides)
