"""GLUE's figures against scikit-learn and scipy, and intervals that hold what they should."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef

from tfcli.metrics.glue import LabelMetrics, ScoreMetrics
from tfcli.metrics.intervals import correlation


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), k=st.integers(2, 4), seed=st.integers(0, 99))
def test_figures_of_classes_equal_scikit_learns(n, k, seed):
    draw = torch.Generator().manual_seed(seed)
    logits, label = torch.randn(n, k, generator=draw), torch.randint(k, (n,), generator=draw)
    guess = logits.argmax(1)
    metric = LabelMetrics(k)
    for rows in torch.randperm(n, generator=draw).split(7):
        metric.update(logits[rows], label[rows], torch.zeros(len(rows)))
    found = metric.with_intervals()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, where all samples are of one class
        right = matthews_corrcoef(label, guess)
    assert found["matthews"][0] == pytest.approx(right, abs=1e-9)
    assert ("f1" in found) == (k == 2)
    if k == 2:
        assert found["f1"][0] == pytest.approx(f1_score(label, guess, zero_division=0))
    assert set(metric.declared) == set(found)


def test_both_sets_of_mnli_are_figures_of_one_test():
    metric = LabelMetrics(3, groups=("matched", "mismatched"))
    logits, label = torch.eye(3)[[0, 1, 2, 0, 0]], torch.tensor([0, 1, 2, 1, 2])
    metric.update(logits, label, torch.zeros(5), torch.tensor([0, 0, 1, 1, 1]))
    found = metric.compute()
    assert [found[name] for name in ("accuracy_matched", "accuracy_mismatched")] == [1.0, pytest.approx(1 / 3)]
    assert found["accuracy"] == pytest.approx(0.6)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(5, 40), seed=st.integers(0, 99))
def test_correlations_equal_scipys(n, seed):
    draw = torch.Generator().manual_seed(seed)
    score = torch.randint(6, (n,), generator=draw).float()
    guess = score + torch.randn(n, generator=draw)
    metric = ScoreMetrics()
    for rows in torch.randperm(n, generator=draw).split(6):
        metric.update(guess[rows], score[rows], rows)
    found = metric.with_intervals()
    if score.unique().numel() > 1:
        expected = pearsonr(guess.double(), score.double())
        assert found["pearson"][0] == pytest.approx(expected.statistic)
        assert found["pearson"][1] == pytest.approx(tuple(expected.confidence_interval(0.95)))
        assert found["spearman"][0] == pytest.approx(spearmanr(guess, score).statistic)
    assert found["loss"][0] == pytest.approx(((guess - score) ** 2).mean().item())
    metric.update(guess, score, torch.arange(n))  # the same samples again
    assert metric.with_intervals() == found


def test_the_interval_of_ranks_covers_the_truth():
    draw = np.random.default_rng(0)
    truth = 6 / np.pi * np.arcsin(0.7 / 2)  # of ranks, where the normal correlation is 0.7
    held = 0
    for _ in range(300):
        x = draw.normal(size=80)
        y = 0.7 * x + np.sqrt(1 - 0.49) * draw.normal(size=80)
        _, (low, high) = correlation(float(spearmanr(x, y).statistic), 80, ranks=True)
        held += low <= truth <= high
    assert 0.92 <= held / 300 <= 0.98


def test_a_constant_guess_correlates_with_nothing():
    metric = ScoreMetrics()
    metric.update(torch.ones(5), torch.arange(5.0), torch.arange(5))
    assert metric.compute()["pearson"] == metric.compute()["spearman"] == 0.0
