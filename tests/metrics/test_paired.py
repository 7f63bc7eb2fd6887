"""The paired test: right when nothing differs, quick to see what does, and exact where there is a closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from tfcli.metrics.paired import compare, compare_all, holm, mcnemar


def answers(draw: np.random.Generator, shifts: list[float], *, seeds: int, spread: float, images: int = 400):
    """A table (S, N) for each configuration: images of unlike difficulty, a spread over seeds, and its own shift."""
    image = draw.normal(1.5, 1.0, images)
    own = [image + draw.normal(0, 0.3, images) + draw.normal(0, spread, (seeds, 1)) + s for s in shifts]
    return [(draw.random((seeds, images)) < ndtr(score)).astype(float) for score in own]


def rate(shift: float, *, seeds: int, spread: float, level: float, cells: int = 11, times: int = 60) -> float:
    """How often cells that differ from the default by `shift` are called different."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(times):
        default, *others = answers(draw, [0.0] + [shift] * cells, seeds=seeds, spread=spread)
        found += [test.p < level for test in compare_all([(each, default) for each in others])]
    return float(np.mean(found))


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (2, 0.1), (3, 0.0), (3, 0.1), (3, 0.3), (5, 0.1)])
def test_where_nothing_differs_it_says_so_about_as_often_as_promised(seeds, spread):
    assert rate(0.0, seeds=seeds, spread=spread, level=0.05) <= 0.075
    assert rate(0.0, seeds=seeds, spread=spread, level=0.01) <= 0.025


def test_without_its_seeds_the_test_would_promise_too_much():
    """What McNemar's test says of one seed is no longer true of other seeds: why seeds are in the test."""
    assert rate(0.0, seeds=1, spread=0.3, level=0.05) > 0.3


def test_what_differs_is_found():
    assert rate(0.5, seeds=3, spread=0.05, level=0.01) > 0.8
    assert rate(0.5, seeds=3, spread=0.0, level=0.01) > rate(0.5, seeds=1, spread=0.0, level=0.01)


def test_the_interval_holds_the_truth_about_as_often_as_promised():
    draw, held = np.random.default_rng(1), []
    for _ in range(400):
        one, other = answers(draw, [0.0, 0.0], seeds=3, spread=0.0)
        test = compare(one, other)
        held.append(test.low <= 0.0 <= test.high)
    assert 0.92 <= np.mean(held) <= 1.0


def test_mcnemar_is_a_fair_coin():
    d = np.array([1.0] * 9 + [-1.0] + [0.0] * 90)
    assert mcnemar(d) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(np.zeros(5)) == 1.0
    assert mcnemar(np.array([1.0, -1.0])) == 1.0


def test_the_same_answers_are_no_difference():
    ours = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    assert (compare(ours, ours).difference, compare(ours, ours).p) == (0.0, 1.0)
    forward, back = compare(ours, 1 - ours), compare(1 - ours, ours)
    assert (forward.difference, forward.p) == (-back.difference, back.p)


def test_an_empty_table_is_refused():
    with pytest.raises(ValueError, match="same images"):
        compare(np.ones((2, 0)), np.ones((2, 0)))


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
