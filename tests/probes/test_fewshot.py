"""Few-shot draws: balanced, seeded, nested; and what they give."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.errors import ConfigError, DataError
from tfcli.probes.fewshot import draw, feasible, few_shot


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 6), classes=st.integers(1, 8), seed=st.integers(0, 99), number=st.integers(0, 5))
def test_a_draw_is_balanced_and_holds_the_smaller_ones(n, classes, seed, number):
    label = np.random.default_rng(seed).permutation(np.arange(classes * 7) % classes)
    rows = draw(label, n=n, seed=seed, number=number)
    assert np.array_equal(np.bincount(label[rows]), [n] * classes)
    assert len(set(rows.tolist())) == n * classes
    assert set(rows) <= set(draw(label, n=n + 1, seed=seed, number=number))
    assert np.array_equal(rows, draw(label, n=n, seed=seed, number=number))


def test_draws_and_seeds_differ():
    label = np.arange(100) % 2
    first = draw(label, n=5, seed=0, number=0)
    assert not np.array_equal(first, draw(label, n=5, seed=0, number=1))
    assert not np.array_equal(first, draw(label, n=5, seed=1, number=0))


def test_too_few_images_of_a_class_are_named():
    label = np.array([0, 0, 0, 4])
    with pytest.raises(DataError, match="2 images of each class: class 4 of train has 1"):
        draw(label, n=2, seed=0, number=0)
    with pytest.raises(DataError, match="class 4 of train has 1"):
        feasible(label, [2, 4])
    assert feasible(label, [1, 2, 4]) == [1]


@pytest.fixture(scope="module")
def splits():
    source = torch.Generator().manual_seed(0)
    centres, label = torch.randn(5, 12, generator=source), torch.arange(600) % 5
    x = centres[label] + 0.8 * torch.randn(600, 12, generator=source)
    return (x[:200], label[:200]), (x[200:300], label[200:300]), (x[300:], label[300:])


def test_more_images_are_better_and_the_mean_is_that_of_the_draws(splits):
    seen = []
    rows = few_shot(*splits, num_classes=5, shots=(1, 4, 16), progress=seen.append)
    assert seen == rows
    assert [row.n for row in rows] == [1, 4, 16]
    assert rows[0].mean < rows[-1].mean
    for row in rows:
        values = [f.accuracy for f in row.draws]
        assert (row.mean, row.std) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
        assert len(row.C) == len(values) == 3


def test_shots_beyond_the_smallest_class_are_left_out(splits):
    rows = few_shot(*splits, num_classes=5, shots=(8, 64), draws=1, C=1.0)
    assert [row.n for row in rows] == [8]
    assert math.isnan(rows[0].std)
    assert rows[0].C == [1.0]


def test_c_and_draws_do_not_depend_on_the_test_split(splits):
    train, val, test = splits
    honest = few_shot(train, val, test, num_classes=5, shots=(2, 4))
    noise = few_shot(train, val, (torch.randn(300, 12), test[1].flip(0)), num_classes=5, shots=(2, 4))
    assert [row.C for row in honest] == [row.C for row in noise]


def test_no_draws_are_refused(splits):
    with pytest.raises(ConfigError, match="at least one draw"):
        few_shot(*splits, num_classes=5, draws=0)
    with pytest.raises(ConfigError, match="n of at least 1"):
        few_shot(*splits, num_classes=5, shots=(0,))
