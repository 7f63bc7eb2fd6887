from __future__ import annotations

import json

import pytest
from conftest import TINY

from tfcli.cli.app import app
from tfcli.cli.describe import lines
from tfcli.engine.config.compose import compose
from tfcli.engine.runs.record import read_record
from tfcli.engine.tools.describe import describe
from tfcli.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "params", "gflops"),
    [
        (["model=vit_b16", "data=imagenet"], 86_567_656, 35.1),
        (["model=vit_l16", "data=imagenet"], 304_326_632, 123.1),
        (["model=resnet34", "data=pets"], 21_303_653, 7.34),
        (["model=regnet_y_400mf", "data=pets"], 3_919_461, 0.80),
    ],
)
def test_parameters_and_flops_are_the_published_ones(words, params, gflops):
    job = compose("train", words)
    facts, structure = describe(job.config, job.choices)
    assert facts["params"]["total"] == params
    assert facts["flops"]["forward"] / 1e9 == pytest.approx(gflops, rel=0.02)
    assert facts["flops"]["multiply_adds"] == facts["flops"]["forward"] / 2
    shown = dict(lines(facts))
    assert float(shown["multiply-adds"].split()[0].replace(",", "")) == pytest.approx(gflops / 2, rel=0.03)
    assert float(shown["operations"].split()[0].replace(",", "")) == pytest.approx(gflops, rel=0.03)
    assert facts["shapes"]["logits"] == [1, job.config.data.num_classes]
    assert "head" in structure or "fc" in structure


def test_steps_follow_batches_accumulation_and_the_carved_validation():
    job = compose("train", ["data=pets", "data.batch_size=32", "trainer.accumulate=2", "trainer.max_epochs=3"])
    facts, _ = describe(job.config, job.choices)
    assert facts["steps"] == {"epoch": 52, "total": 156, "images": 3312}


def test_a_run_is_described_by_its_saved_config(tiny_run, capsys):
    app(["describe", str(tiny_run), "--json"], standalone_mode=False)
    facts = json.loads(capsys.readouterr().out)
    assert facts["params"]["total"] == read_record(tiny_run).params["total"]
    job = compose("train", [*TINY, "pos=none", f"model.weights={tiny_run}"])  # a run that went on from another one
    own, adopted = (describe(job.config.copy(), job.choices, typed)[0]["params"]["total"] for typed in (None, ()))
    assert own < adopted == facts["params"]["total"]
    with pytest.raises(ConfigError, match="`vitt` is neither a model nor a run"):
        app(["describe", "vitt"], standalone_mode=False)
