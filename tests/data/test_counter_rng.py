from __future__ import annotations

import hashlib

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


def as_arrays(*parts):
    """The definition of the hash, all of it in arrays of 64-bit words."""
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        if isinstance(part, str):
            part = int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")
        word = np.array([int(part) % 2**64], dtype=np.uint64) if np.ndim(part) == 0 else part.astype(np.uint64)
        x = (state + np.uint64(0x9E3779B97F4A7C15)) ^ word
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = x ^ (x >> np.uint64(31))
    return state


word = st.integers(-(2**63), 2**63 - 1)
one = st.one_of(word, word.map(np.int64), st.integers(0, 2**64 - 1).map(np.uint64), st.text(max_size=8))
rows = st.lists(word, min_size=3, max_size=3).map(lambda values: np.array(values, dtype=np.int64))


@given(st.lists(st.one_of(one, rows), max_size=5))
def test_integers_and_arrays_have_the_same_words(parts):
    words = hash64(*parts)
    assert words.dtype == np.uint64
    assert words.tolist() == as_arrays(*parts).tolist()
    assert seed_for(*parts) == int(words[0]) >> 1


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
