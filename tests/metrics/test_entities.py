"""Entities by hand and against seqeval, whatever the tags."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.metrics.entities import EntityMetrics, entities, entity_figures


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-PER I-PER O B-LOC", [("PER", 1, 3), ("LOC", 4, 5)]),
        ("I-PER I-PER B-PER O", [("PER", 0, 2), ("PER", 2, 3)]),  # IOB1: B- only where two touch
        ("B-PER E-PER S-LOC B-PER I-PER E-PER", [("PER", 0, 2), ("LOC", 2, 3), ("PER", 3, 6)]),
        ("O I-PER I-LOC", [("PER", 1, 2), ("LOC", 2, 3)]),  # no beginning, and another kind in the middle
        ("E-PER E-PER I-PER", [("PER", 0, 1), ("PER", 1, 2), ("PER", 2, 3)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("S-PER I-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("", []),
    ],
)
def test_entities_by_hand(tags, expected):
    assert entities(tags.split()) == expected


TAGS = st.sampled_from([*(f"{mark}-{kind}" for mark in "BIES" for kind in ("PER", "LOC")), "O", "O"])
SENTENCES = st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=9), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(sentences=SENTENCES)
def test_figures_equal_seqevals(sentences):
    reference = pytest.importorskip("seqeval.metrics")
    guesses, targets = ([[pair[side] for pair in s] for s in sentences] for side in (0, 1))
    found = entity_figures(guesses, targets)
    for name in ("precision", "recall", "f1"):
        expected = getattr(reference, f"{name}_score")(targets, guesses, zero_division=0)
        assert found[name][0] == pytest.approx(expected), name
    assert found["accuracy"][0] == pytest.approx(reference.accuracy_score(targets, guesses))


def test_the_metric_reads_first_pieces_in_any_order():
    metric = EntityMetrics(["O", "B-PER", "I-PER", "B-LOC"])
    metric.words = [["Ada", "Lovelace", "in", "Rome"], ["Rome", "and", "Rome"]]
    target = torch.tensor([[1, -100, 2, 0, 3], [3, 0, 3, -100, -100]])
    guess = torch.tensor([[1, 3, 2, 0, 0], [3, 0, 3, 1, 1]])
    for rows in ([1], [0]):
        metric.update(guess[rows], target[rows], torch.tensor(rows))
    found = metric.with_intervals()
    assert set(found) == set(metric.declared)
    assert {name: value for name, (value, _) in found.items()} == pytest.approx(
        {
            "f1": 2 * 3 / (3 + 4),
            "precision": 1.0,
            "recall": 0.75,
            "f1_surface": 1.0,  # Rome is found, though not everywhere
            "accuracy": 6 / 7,
            "f1/PER": 1.0,
            "f1/LOC": 2 * 2 / (2 + 3),
        }
    )
    assert all(low <= value <= high for value, (low, high) in found.values())


def test_nothing_found_is_zero_of_everything():
    assert entity_figures([["O", "O"]], [["B-PER", "O"]])["f1"][0] == 0.0
