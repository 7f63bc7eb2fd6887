"""Answers scored as the official scripts do: by hand, and against a literal reading of their description."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.text import squad as torchmetrics_squad

from tfcli.metrics.squad import (
    Question,
    SquadMetrics,
    best_spans,
    best_threshold,
    exact_match,
    f1,
    normalised,
    score_answers,
)

TRICKY = [
    # guess, answers, then exact match and F1 of v1.1 and of v2.0
    ("The Eiffel Tower.", ["eiffel tower"], (1, 1), (1, 1)),
    ("the tower", ["a Tower!", "Paris"], (1, 1), (1, 1)),
    ("“Paris”", ["Paris"], (0, 0), (0, 0)),  # only ASCII punctuation is taken off
    ("Paris – Lyon", ["Paris Lyon"], (0, 0.8), (0, 0.8)),  # nor is a dash of Unicode: three words against two
    ("don't", ["dont"], (1, 1), (1, 1)),
    ("anthem", ["them"], (0, 0), (0, 0)),  # an article is a word, not a part of one
    ("in a house", ["in house", "house"], (1, 1), (1, 1)),
    ("to be or not to be", ["to to be"], (0, 2 * 3 / 9), (0, 2 * 3 / 9)),  # to twice, be once: 3 of 6 and of 3
    ("no no no", ["no"], (0, 0.5), (0, 0.5)),
    ("", ["the"], (1, 0), (1, 1)),  # v2.0 drops an answer of articles only and expects nothing
    ("an", ["the", "one"], (1, 0), (0, 0)),  # to v2.0 only "one" is an answer
    ("", [], (0, 0), (1, 1)),
    ("Rome", [], (0, 0), (0, 0)),
    ("  1,000   people ", ["1000 people"], (1, 1), (1, 1)),
]


@pytest.mark.parametrize(("guess", "answers", "first", "second"), TRICKY)
def test_tricky_answers_by_hand(guess, answers, first, second):
    for version, expected in (("1.1", first), ("2.0", second)):
        found = exact_match(guess, answers, version=version), f1(guess, answers, version=version)
        assert found == pytest.approx(expected), version


def test_v11_equals_torchmetrics_where_nothing_is_empty():
    """Where something is, torchmetrics gives v2.0's F1 of 1, not the 0 of v1.1's script."""
    rows = [(guess, answers) for guess, answers, *_ in TRICKY if answers and all(map(normalised, [guess, *answers]))]
    assert len(rows) > 8
    said = [{"prediction_text": guess, "id": str(i)} for i, (guess, _) in enumerate(rows)]
    true = [{"answers": {"answer_start": [0] * len(a), "text": a}, "id": str(i)} for i, (_, a) in enumerate(rows)]
    expected = torchmetrics_squad(said, true)
    found = score_answers([guess for guess, _ in rows], [answers for _, answers in rows])
    assert 100 * found["exact_match"][0] == pytest.approx(expected["exact_match"].item())
    assert 100 * found["f1"][0] == pytest.approx(expected["f1"].item())


def slow_threshold(guesses, score, none, answered):
    """The search as the script of v2.0 describes it: question by question, by how sure of no answer."""
    total = best = sum(not a for a in answered)
    at = 0.0
    for i in sorted(range(len(score)), key=lambda i: none[i]):
        total += score[i] if answered[i] else (-1 if guesses[i] else 0)
        if total > best:
            best, at = total, none[i]
    return best / len(score), at


WORDS = st.lists(st.sampled_from(["red", "the", "an", "hat", "Hat!", "—"]), max_size=3).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=2), st.integers(-3, 3)), min_size=1, max_size=12),
    threshold=st.integers(-3, 3),
)
def test_v2_equals_its_description(rows, threshold):
    guesses, answers = [guess for guess, _, _ in rows], [answers for _, answers, _ in rows]
    none = np.array([odds for *_, odds in rows], float)
    found = score_answers(guesses, answers, version="2.0", none=none, threshold=threshold)
    answered = [any(normalised(text) for text in texts) for texts in answers]
    for name, measure in (("f1", f1), ("exact_match", exact_match)):
        raw = [measure(g, a, version="2.0") for g, a in zip(guesses, answers, strict=True)]
        kept = [float(not a) if o > threshold else r for r, a, o in zip(raw, answered, none, strict=True)]
        assert found[name][0] == pytest.approx(np.mean(kept))
        for which, value in (("has_answer", True), ("no_answer", False)):
            part = [k for k, a in zip(kept, answered, strict=True) if a == value]
            assert (f"{name}_{which}" in found) == bool(part)
            assert not part or found[f"{name}_{which}"][0] == pytest.approx(np.mean(part))
        best, at = slow_threshold(guesses, raw, none, answered)
        assert found[f"best_{name}"][0] == pytest.approx(best)
        if name == "f1":
            assert found["best_threshold"][0] == at


def test_a_threshold_keeps_what_is_worth_saying():
    score, answered = np.array([1.0, 0.5, 0.0, 0.0]), np.array([True, True, False, True])
    best, at = best_threshold(score, np.array([-2.0, 0.5, 1.0, 2.0]), answered)
    assert best.tolist() == [1.0, 0.5, 1.0, 0.0]
    assert at == 0.5


def slow_spans(start, end, inside, longest):
    for s, e, i in zip(start, end, inside, strict=True):
        places = [p for p in range(len(s)) if i[p]]
        yield max(((s[a] + e[b]).item(), -a, -b) for a in places for b in places if a <= b < a + longest)


@settings(max_examples=30, deadline=None)
@given(length=st.integers(2, 14), longest=st.integers(1, 5), seed=st.integers(0, 99))
def test_the_best_span_is_the_best_of_all(length, longest, seed):
    draw = torch.Generator().manual_seed(seed)
    start, end = torch.randn(2, 4, length, generator=draw)
    inside = torch.rand(4, length, generator=draw) < 0.7
    inside[:, 1] = True
    score, first, last = best_spans(start, end, inside, longest=longest)
    for i, (value, a, b) in enumerate(slow_spans(start, end, inside, longest)):
        assert (score[i].item(), first[i].item(), last[i].item()) == (pytest.approx(value), -a, -b)


def test_windows_of_a_question_are_one_answer_cut_from_the_context():
    metric = SquadMetrics(version="2.0")
    context = "Der Turm (324 m) steht in Paris."
    metric.questions = [Question(context, ("324 m",)), Question(context, ())]
    offsets = torch.tensor([[[0, 0], [4, 8], [10, 13], [14, 15], [26, 31]]]).expand(3, -1, -1)
    inside = torch.tensor([[False, True, True, True, True]]).expand(3, -1)
    start = torch.tensor([[0.0, 0, 5, 0, 0], [-9.0, 0, 0, 0, 4], [3.0, 1, 0, 0, 0]])
    end = torch.tensor([[0.0, 0, 0, 5, 0], [-9.0, 0, 0, 0, 4], [3.0, 1, 0, 0, 0]])
    question, index = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])
    for rows in ([2, 0], [1]):
        metric.update(
            start[rows], end[rows], inside=inside[rows], offsets=offsets[rows], index=index[rows],
            question=question[rows],
        )  # fmt: skip
    found = metric.compute()
    assert found["exact_match"] == found["f1_no_answer"] == found["f1_has_answer"] == 1.0
    metric.threshold = 5.0  # the null score of the second question is above its best span's by 4
    assert metric.with_intervals()["exact_match_no_answer"][0] == 0.0
    assert set(metric.with_intervals()) == set(metric.declared)
