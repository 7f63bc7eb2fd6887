"""Our sums against torchmetrics' figures, and the intervals against what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassConfusionMatrix

from tfcli.metrics.classification import ClassificationMetrics
from tfcli.metrics.intervals import wilson


def sample(n: int, k: int, seed: int):
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, k, generator=draw)
    label = torch.randint(k, (n,), generator=draw)
    return logits, label, torch.nn.functional.cross_entropy(logits, label, reduction="none")


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 60), k=st.integers(2, 12), seed=st.integers(0, 99))
def test_figures_equal_torchmetrics(n, k, seed):
    logits, label, loss = sample(n, k, seed)
    metric = ClassificationMetrics(k)
    metric.update(logits, label, loss)
    ours = metric.compute()
    assert ours["accuracy"] == pytest.approx(MulticlassAccuracy(k, average="micro")(logits, label).item(), abs=1e-6)
    present = label.unique()
    share = [(logits.argmax(1)[label == c] == c).float().mean().item() for c in present]
    assert ours["accuracy_per_class"] == pytest.approx(np.mean(share), abs=1e-6)
    if k > 5:
        assert ours["accuracy_top5"] == pytest.approx(
            MulticlassAccuracy(k, average="micro", top_k=5)(logits, label).item(), abs=1e-6
        )
    assert ours["loss"] == pytest.approx(loss.mean().item(), abs=1e-5)
    reference = MulticlassCalibrationError(k, n_bins=15, norm="l1")(logits.softmax(1), label).item()
    assert ours["calibration_error"] == pytest.approx(reference, abs=1e-5)
    assert torch.equal(metric.confusion, MulticlassConfusionMatrix(k)(logits, label))


def test_batches_and_their_order_change_nothing_at_all():
    logits, label, loss = sample(101, 7, 3)
    whole, parts = ClassificationMetrics(7), ClassificationMetrics(7)
    whole.update(logits, label, loss)
    for rows in torch.randperm(101).split(13):
        parts.update(logits[rows], label[rows], loss[rows])
    assert whole.with_intervals() == parts.with_intervals()


def test_a_loss_that_is_not_finite_is_shown_as_such():
    logits, label, loss = sample(5, 3, 0)
    loss[2] = float("nan")
    metric = ClassificationMetrics(3)
    metric.update(logits, label, loss)
    assert math.isnan(metric.compute()["loss"])
    assert metric.compute()["accuracy"] >= 0


@given(hits=st.integers(0, 50), more=st.integers(0, 50))
def test_wilson_holds_the_share_and_stays_in_bounds(hits, more):
    total = max(1, hits + more)
    low, high = wilson(hits, total)
    assert 0 <= low <= hits / total + 1e-12
    assert hits / total - 1e-12 <= high <= 1


def test_wilson_covers_the_truth_about_95_times_in_100():
    draw = np.random.default_rng(0)
    hits = draw.binomial(300, 0.9, size=2000)
    covered = np.mean([low <= 0.9 <= high for low, high in (wilson(int(h), 300) for h in hits)])
    assert 0.93 <= covered <= 0.97


def test_intervals_hold_their_figures():
    logits, label, loss = sample(400, 10, 1)
    metric = ClassificationMetrics(10)
    metric.update(logits, label, loss)
    for name, (value, (low, high)) in metric.with_intervals().items():
        if name != "calibration_error":  # resampling biases it upwards
            assert low <= value <= high, name


def test_nothing_seen_is_an_error():
    with pytest.raises(ValueError, match="nothing to measure"):
        ClassificationMetrics(3).with_intervals()
