from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfcli.data.common.counter_rng import below, fields, hash64, permutation, seed_for, uniform


def test_words_are_uniform_and_uncorrelated():
    draws = uniform(fields(0, "test", np.arange(4000), 8))
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.01
    correlations = np.corrcoef(draws.T) - np.eye(8)
    assert np.abs(correlations).max() < 0.06
    assert np.abs(np.corrcoef(draws[1:, 0], draws[:-1, 0])[0, 1]) < 0.06


def test_every_part_of_an_address_matters():
    words = {int(hash64(*address)[0]) for address in ((1, 2), (2, 1), (1, "2"), ("1", 2), (1, 2, 0), (1,), (-1, 2))}
    assert len(words) == 7


def test_a_batch_is_its_samples():
    indices = np.array([3, 10**12, 0])
    together = hash64(7, "x", indices)
    assert together.tolist() == [int(hash64(7, "x", int(i))[0]) for i in indices]


def test_seeds_and_ranges():
    assert 0 <= seed_for(0, "init") < 2**63
    assert seed_for(0, "init") == seed_for(0, "init") != seed_for(1, "init")
    drawn = below(hash64(np.arange(1000)), 5)
    assert set(drawn.tolist()) == set(range(5))


@given(count=st.integers(0, 300), seed=st.integers(-(2**63), 2**64 - 1), epoch=st.integers(0, 2**40))
def test_a_permutation_is_the_order_of_its_words(count: int, seed: int, epoch: int) -> None:
    words = hash64(seed, "order", epoch, np.arange(count))
    assert (permutation(count, seed, "order", epoch) == np.argsort(words, kind="stable")).all()
