"""Counting words finds what single words tell, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from tfcli.tasks.baselines.classes import majority
from tfcli.tasks.baselines.wordcounts import frequent_tags, tfidf_cosine, tfidf_logistic

FILLING = ["the", "film", "was", "long", "and", "it", "had", "a", "plot", "about", "some", "people", "in", "town"]


def reviews(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 2, size=count)
    return [" ".join([*draw.choice(FILLING, 6), "bad" if c == 0 else "good"]) for c in label], label


def test_a_word_that_tells_the_class_is_found():
    (train, label), (val, val_label), (test, test_label) = reviews(200, 0), reviews(40, 1), reviews(60, 2)
    guess, cost = tfidf_logistic([train], label, [val], val_label, [test])
    assert (guess == test_label).mean() > 0.95
    assert cost > 0
    assert set(majority(label, 60)) == {int(label.mean() > 0.5)}


def test_pairs_are_told_by_what_both_say():
    draw = np.random.default_rng(0)
    first = [" ".join(draw.choice(FILLING, 6)) for _ in range(300)]
    label = draw.integers(0, 2, size=300)
    second = [text if same else " ".join(draw.choice(FILLING, 6)) for text, same in zip(first, label, strict=True)]
    pairs, parts = [first, second], (slice(200), slice(200, 240), slice(240, None))
    train, val, test = ([column[part] for column in pairs] for part in parts)
    guess, _ = tfidf_logistic(train, label[:200], val, label[200:240], test)
    assert (guess == label[240:]).mean() > 0.9
    alike = tfidf_cosine(train, test)
    assert alike[label[240:] == 1] == pytest.approx(1.0)
    assert alike[label[240:] == 0].max() < 0.95


def test_a_word_has_its_usual_tag():
    words, tags = [["Rome", "is", "old"], ["Rome", "met", "Ada"], ["Rome"]], [[1, 0, 0], [1, 0, 2], [2]]
    assert frequent_tags(words, tags, [["Ada", "is", "in", "Rome"]]) == [[2, 0, 0, 1]]
