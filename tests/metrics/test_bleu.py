"""BLEU is sacrebleu's, over any batches; lengths are the sources' own."""

from __future__ import annotations

import sacrebleu
import torch

from tfcli.metrics.bleu import TranslationMetrics, edges, translation_figures

REFERENCES = [
    "A dog runs through the snow.",
    "Two men are playing football in the park near the river.",
    "A woman sits.",
    "The boy with the red hat is jumping over a fence.",
    "People walk along the street at night while it is raining.",
    "A child sleeps on a bench.",
]
GUESSES = [
    "A dog runs through snow.",
    "Two men play football in the park near the river.",
    "A woman sits.",
    "The boy with a red hat jumps over a fence.",
    "People walk at night in the rain.",
    "A child is sleeping on a bench.",
]
SOURCES = ["x " * n for n in (5, 11, 3, 10, 9, 6)]


def measured(order: list[list[int]]) -> TranslationMetrics:
    metric = TranslationMetrics(buckets=3)
    for rows in order:
        said, right, sources = ([texts[i] for i in rows] for texts in (GUESSES, REFERENCES, SOURCES))
        metric.update(said, right, sources, torch.tensor(rows))
    return metric


def test_a_corpus_scores_as_with_sacrebleu_in_any_batches():
    whole, parts = measured([list(range(6))]), measured([[5, 3], [0], [1, 4, 2], [2]])
    found = whole.with_intervals()
    assert found == parts.with_intervals()
    bleu = sacrebleu.corpus_bleu(GUESSES, [REFERENCES])
    assert found["bleu"][0] == bleu.score == whole.compute()["bleu"]
    assert found["chrf"][0] == sacrebleu.corpus_chrf(GUESSES, [REFERENCES]).score
    assert found["exact_match"][0] == 1 / 6
    assert all(low <= value <= high for value, (low, high) in found.values())
    assert "tok:13a" in whole.signatures["bleu"]
    assert f"version:{sacrebleu.__version__}" in whole.signatures["bleu"]


def test_lengths_are_buckets_of_sources():
    found = measured([list(range(6))]).with_intervals()
    assert [name for name in found if name.startswith("bleu/")] == ["bleu/length=5", "bleu/length=9", "bleu/length=11"]
    last = sacrebleu.corpus_bleu([GUESSES[1], GUESSES[3]], [[REFERENCES[1], REFERENCES[3]]])
    assert found["bleu/length=11"][0] == last.score
    assert found["exact_match/length=5"][0] == 0.5


def test_buckets_are_never_empty():
    assert edges([4] * 50 + [5, 9], 6) == [4, 9]
    assert edges([7], 6) == [7]
    assert edges(list(range(1, 13)), 4) == [3, 6, 9, 12]


def test_the_bootstrap_takes_draws_in_which_nothing_is_right():
    figures, _ = translation_figures(["qqq"] * 40 + ["This is"], ["This is sentence number."] * 41)
    value, (low, high) = figures["chrf"]
    assert 0.5 < value < 0.6
    assert low == 0 < high < 3
