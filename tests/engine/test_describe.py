from __future__ import annotations

import pytest

from tfcli.cli.describe import lines
from tfcli.engine.config.compose import compose
from tfcli.engine.tools.describe import describe


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
