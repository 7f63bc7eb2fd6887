"""Chance and the most frequent class stand beside every result on classes."""

from __future__ import annotations

import numpy as np
import pytest

from tfcli.engine.runs.record import Record
from tfcli.engine.runs.summary import baselines
from tfcli.metrics.classification import ClassificationMetrics
from tfcli.metrics.glue import LabelMetrics
from tfcli.tasks.baselines.classes import class_guesses
from tfcli.tasks.baselines.pixels import nearest_neighbour


def test_the_most_frequent_class_is_that_of_training():
    found = class_guesses(ClassificationMetrics(8), np.array([3, 3, 1]), np.array([1, 1, 1, 3, 7]))
    assert found["chance/accuracy"] == 1 / 8
    assert found["chance/accuracy_top5"] == 5 / 8
    assert found["most frequent class/accuracy"] == pytest.approx(1 / 5)
    assert found["most frequent class/accuracy_per_class"] == pytest.approx(1 / 3)
    assert not any(name.endswith(("loss", "calibration_error")) for name in found)


def test_labels_of_texts_are_measured_as_the_model_is():
    found = class_guesses(LabelMetrics(2), np.array([1, 1, 0]), np.array([1, 1, 1, 0]), prefix="zeroshot_")
    assert found["most frequent class/zeroshot_accuracy"] == pytest.approx(3 / 4)
    assert found["most frequent class/zeroshot_f1"] == pytest.approx(6 / 7)


def test_without_labels_of_training_there_is_chance_alone():
    assert class_guesses(ClassificationMetrics(4), np.zeros(0, int), np.array([1])) == {"chance/accuracy": 1 / 4}


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


def test_the_nearest_image_is_found_by_distances_that_do_not_wrap():
    train = np.array([[[250, 0]], [[120, 0]]], dtype=np.uint8)
    test = np.array([[[0, 0]], [[255, 10]], [[200, 0]], [[100, 100]]], dtype=np.uint8)
    assert nearest_neighbour(train, np.array([0, 1]), test, np.array([1, 0, 0, 0])) == 0.75
