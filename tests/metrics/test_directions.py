"""Every metric says of each of its figures whether less or more of it is better."""

from __future__ import annotations

import pytest
import torch

from tfcli.metrics.classification import ClassificationMetrics
from tfcli.metrics.glue import LabelMetrics, ScoreMetrics
from tfcli.metrics.language import LanguageMetrics
from tfcli.metrics.masked import MaskedMetrics
from tfcli.metrics.retrieval import RetrievalMetrics
from tfcli.metrics.translated import TranslatedMetrics

LABEL = torch.arange(8).repeat(4)
INDEX = torch.arange(32)


def classes(metric, good: bool):
    logits = torch.nn.functional.one_hot(LABEL if good else (LABEL + 1) % 8, 8).float() * 20
    loss = torch.nn.functional.cross_entropy(logits, LABEL, reduction="none")
    metric.update(logits, LABEL, loss)
    return metric.compute(), metric.declared


def pairs(good: bool):
    metric = RetrievalMetrics()
    image = torch.eye(32)
    metric.update(image, INDEX, image if good else image.roll(1, 0), INDEX)
    return metric.compute(10.0), metric.declared


def sums(metric, good: bool, **sizes):
    nats = torch.full((32,), 1.0 if good else 9.0)
    metric.update(nats, torch.full((32,), 4), **sizes)
    return metric.compute(), metric.declared


def filled(good: bool):
    metric = MaskedMetrics()
    right = torch.full((32,), 4 if good else 0)
    metric.update(torch.full((32,), 1.0 if good else 9.0), right, torch.full((32,), 4), right // 4, INDEX)
    return metric.compute(), metric.declared


def scores(good: bool):
    metric = ScoreMetrics()
    right = torch.arange(32.0)
    metric.update(right if good else -right, right, INDEX)
    return metric.compute(), metric.declared


def translations(good: bool):
    metric = TranslatedMetrics()
    right = ["a small dog runs over the green grass"] * 4
    said = right if good else ["no word of it"] * 4
    nats, tokens = torch.full((4,), 1.0 if good else 9.0), torch.full((4,), 4)
    metric.update(said, right, right, torch.arange(4), nats=nats, tokens=tokens)
    return metric.compute(), metric.declared


SIZE = torch.full((32,), 5)
CASES = {
    ClassificationMetrics: lambda good: classes(ClassificationMetrics(8), good),
    LabelMetrics: lambda good: classes(LabelMetrics(8), good),
    RetrievalMetrics: pairs,
    LanguageMetrics: lambda good: sums(LanguageMetrics(), good, bytes=SIZE, chars=SIZE, words=SIZE),
    MaskedMetrics: filled,
    ScoreMetrics: scores,
    TranslatedMetrics: translations,
}


@pytest.mark.parametrize("metric", CASES, ids=lambda metric: metric.__name__)
def test_what_a_metric_declares_is_so(metric):
    (good, declared), (bad, _) = CASES[metric](True), CASES[metric](False)
    assert set(good) == set(declared)
    assert {name for name in good if good[name] < bad[name]} == {n for n, i in declared.items() if i.lower_is_better}
    assert {name for name in good if good[name] > bad[name]} == {
        n for n, i in declared.items() if not i.lower_is_better
    }


def test_figures_by_length_have_titles_and_stand_last():
    metric = TranslatedMetrics(buckets=2)
    said = ["a small dog runs", "a small dog runs over the green grass"] * 8
    metric.update(said, said, said, torch.arange(16), nats=torch.ones(16), tokens=torch.full((16,), 4))
    metric.with_intervals()
    names = list(metric.declared)
    assert names[:5] == ["bleu", "chrf", "perplexity", "exact_match", "loss"]
    assert {"bleu/length=4", "bleu/length=8"} < set(names[5:])
    assert metric.declared["bleu/length=8"].title == "BLEU, up to 8 words"
