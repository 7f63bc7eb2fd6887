"""Figures from ranked classes, and splits that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.errors import DataError
from tfcli.metrics.classification import ClassificationMetrics
from tfcli.probes.scores import checked, hold_out, ranked, score


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 60), k=st.integers(2, 12), seed=st.integers(0, 99))
def test_figures_are_those_of_training_runs(n, k, seed):
    draw = torch.Generator().manual_seed(seed)
    logits, label = torch.randn(n, k, generator=draw), torch.randint(k, (n,), generator=draw)
    ours = score(ranked(logits), label, num_classes=k)
    metric = ClassificationMetrics(k)
    metric.update(logits, label, torch.zeros(n))
    theirs = metric.with_intervals()
    assert (ours.accuracy, ours.accuracy_interval) == theirs["accuracy"]
    assert (ours.per_class, ours.per_class_interval) == theirs["accuracy_per_class"]
    assert (None if ours.top5 is None else (ours.top5, ours.top5_interval)) == theirs.get("accuracy_top5")
    assert ours.confusion.sum() == ours.n == n


def test_places_that_rank_nothing_are_never_right():
    ranking = torch.tensor([[2, 0, -1, -1, -1], [1, -1, -1, -1, -1]])
    figures = score(ranking, torch.tensor([0, 0]), num_classes=7)
    assert figures.accuracy == 0
    assert figures.top5 == 0.5


def test_a_test_split_of_few_classes_means_over_those():
    figures = score(torch.tensor([[0], [1], [1]]), torch.tensor([0, 0, 1]), num_classes=37)
    assert figures.per_class == pytest.approx(0.75)
    assert figures.top5 is None


def test_nothing_to_measure_is_an_error():
    with pytest.raises(DataError, match="no samples"):
        score(torch.zeros(0, 5, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), num_classes=9)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_finite_are_refused_by_split_and_row(value):
    x = torch.zeros(5, 3)
    x[3, 1] = value
    with pytest.raises(DataError, match=r"val: features of row 3 .*column 1.*1 of 5 rows"):
        checked("val", (x, torch.zeros(5, dtype=torch.int64)), num_classes=2)


@pytest.mark.parametrize(
    ("x", "label", "words"),
    [
        (torch.zeros(0, 3), [], "no samples"),
        (torch.zeros(4), [0, 0, 0, 0], "matrix"),
        (torch.zeros(2, 4), [0, 1], "4 columns, those of train have 3"),
        (torch.zeros(2, 3), [0], "2 rows"),
        (torch.zeros(2, 3), [0, 2], r"label of row 1 is 2, outside 0 \.\.\. 1"),
        (torch.zeros(2, 3), [-1, 1], "label of row 0 is -1"),
    ],
)
def test_what_does_not_fit_is_refused(x, label, words):
    with pytest.raises(DataError, match=words):
        checked("test", (x, torch.tensor(label, dtype=torch.int64)), num_classes=2, width=3)


def test_half_precision_and_small_labels_are_taken():
    x, label = checked("train", (torch.ones(2, 3).half(), torch.tensor([0, 1], dtype=torch.int32)), num_classes=2)
    assert (x.dtype, label.dtype) == (torch.float32, torch.int64)


def test_what_is_held_out_is_stratified_seeded_and_apart():
    label = torch.arange(5).repeat(20)
    x = torch.arange(100.0)[:, None]
    kept, taken = hold_out((x, label), fraction=0.2, seed=0)
    assert np.array_equal(torch.bincount(taken[1]), [4] * 5)
    assert set(kept[0].flatten().tolist()).isdisjoint(taken[0].flatten().tolist())
    assert len(kept[1]) + len(taken[1]) == 100
    assert torch.equal(hold_out((x, label), fraction=0.2, seed=0)[1][0], taken[0])
    assert not torch.equal(hold_out((x, label), fraction=0.2, seed=1)[1][0], taken[0])


def test_nothing_can_be_held_out_of_one_image_each():
    with pytest.raises(DataError, match="none can be held out"):
        hold_out((torch.zeros(3, 2), torch.arange(3)), fraction=0.5, seed=0)
