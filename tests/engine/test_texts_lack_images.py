"""Verbs of frozen features say of texts and of models of texts what they lack, before anything is built."""

from __future__ import annotations

import pytest

from tfcli.engine.probe import encoder
from tfcli.engine.runs.named import frozen_job
from tfcli.errors import ConfigError


@pytest.mark.parametrize(
    ("model", "data", "trained"),
    [
        ("bert", "sst2", "bert"),
        ("vit", "english", "bert"),
        ("clip", "multi30k", "rnn"),
        ("knn", "table", "bert"),
    ],
)
def test_texts_have_no_features_of_images(model, data, trained):
    with pytest.raises(ConfigError, match=f"data `{data}` has no images.*`tfcli train model={trained} data={data}`"):
        frozen_job([f"model={model}", f"data={data}"])


def test_a_model_of_texts_has_no_features_of_images():
    job, _ = frozen_job(["bert", "digits", "model.weights=random"])
    with pytest.raises(ConfigError, match="`model=bert` reads text and has no features of images"):
        encoder.prepare(job, None)
