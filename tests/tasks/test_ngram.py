"""The n-gram model is a distribution, finds what there is to find, and never says that something is impossible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.tasks.baselines.ngram import ngram, unigram


def chain(length: int, seed: int, *, tokens: int = 6) -> tuple[np.ndarray, float]:
    """Tokens of a random Markov chain, and its entropy in nats a token."""
    draw = np.random.default_rng(seed)
    table = draw.dirichlet(np.full(tokens, 0.4), size=tokens)
    states = [0]
    for u in draw.random(length - 1):
        states.append(min(tokens - 1, int(np.searchsorted(table[states[-1]].cumsum(), u))))
    steady = np.linalg.matrix_power(table, 200)[0]
    entropy = -(steady[:, None] * table * np.log(np.maximum(table, 1e-300))).sum()
    return np.array(states), float(entropy)


@settings(max_examples=25, deadline=None)
@given(
    train=st.lists(st.integers(0, 4), min_size=2, max_size=60),
    context=st.lists(st.integers(0, 4), max_size=4),
    order=st.integers(1, 4),
)
def test_chances_of_all_that_may_follow_add_up_to_one(train, context, order):
    follow = [ngram(np.array(train), np.array([*context, w]), vocab_size=5, order=order)[-1] for w in range(5)]
    assert np.exp(-np.array(follow)).sum() == pytest.approx(1.0)
    assert np.isfinite(follow).all()


def test_a_chain_is_known_by_its_pairs():
    tokens, entropy = chain(30_000, 0)
    train, test = tokens[:20_000], tokens[20_000:]
    one, two, three = (ngram(train, test, vocab_size=6, order=order).mean() for order in (1, 2, 3))
    assert two == pytest.approx(entropy, abs=0.03)
    assert three == pytest.approx(two, abs=0.01)  # the weights see that a third token back says nothing
    assert one > two + 0.2


def test_single_tokens_are_their_frequencies():
    train = np.array([0] * 60 + [1] * 30 + [2] * 10)
    np.random.default_rng(0).shuffle(train)
    share, nats = unigram(train, np.array([0, 0, 1, 3]), vocab_size=4)
    assert share == 0.5
    assert np.exp(-nats) == pytest.approx([0.6, 0.6, 0.3, 0.0], abs=0.02)
    assert np.exp(-nats[3]) > 0
