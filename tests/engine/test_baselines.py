"""Chance and the most frequent class stand beside every result on classes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tfcli.engine.runs.record import Record
from tfcli.engine.runs.summary import baselines
from tfcli.engine.train.baselines import of_classes
from tfcli.metrics.classification import ClassificationMetrics
from tfcli.metrics.glue import LabelMetrics


def data(**labels: list[int]) -> SimpleNamespace:
    return SimpleNamespace(labels=lambda split: np.array(labels.get(split, []), np.int64))


def test_the_most_frequent_class_is_that_of_training():
    found = of_classes("", ClassificationMetrics(8), data(train=[3, 3, 1], test=[1, 1, 1, 3, 7]))
    assert found["chance/accuracy"] == 1 / 8
    assert found["chance/accuracy_top5"] == 5 / 8
    assert found["most frequent class/accuracy"] == pytest.approx(1 / 5)
    assert found["most frequent class/accuracy_per_class"] == pytest.approx(1 / 3)
    assert not any(name.endswith(("loss", "calibration_error")) for name in found)


def test_labels_of_texts_are_measured_as_the_model_is():
    found = of_classes("zeroshot_", LabelMetrics(2), data(train=[1, 1, 0], test=[1, 1, 1, 0]))
    assert found["most frequent class/zeroshot_accuracy"] == pytest.approx(3 / 4)
    assert found["most frequent class/zeroshot_f1"] == pytest.approx(6 / 7)


def test_without_labels_of_training_there_is_chance_alone():
    assert of_classes("", ClassificationMetrics(4), data(test=[1])) == {"chance/accuracy": 1 / 4}


def test_each_figure_has_its_own_baselines_beside_it():
    beside = {
        "chance/accuracy": 0.1,
        "chance/fewshot/shots=1/accuracy": 0.25,
        "logistic_pixels": 0.9,
        "bigram/loss": 2.0,
    }
    record = Record("train", "finished", "vit", "digits", baselines=beside)
    assert baselines(record, "test/accuracy") == {"chance": 0.1, "logistic regression on pixels": 0.9}
    assert baselines(record, "fewshot/shots=1/accuracy") == {"chance": 0.25}
    assert baselines(record, "test/loss") == {"bigram": 2.0}
    assert baselines(record, "val/accuracy") == {}
