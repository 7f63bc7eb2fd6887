"""Losses of text in the units in which they are published, by hand, with intervals that hold what they should."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch

from tfcli.metrics.language import LanguageMetrics


def test_figures_by_hand_in_any_batches():
    nats, tokens = torch.tensor([6.0, 2.0, 4.0]), torch.tensor([3, 1, 2])
    sizes = {"bytes": torch.tensor([9, 3, 8]), "chars": torch.tensor([8, 3, 5]), "words": torch.tensor([2, 0, 1])}
    whole, parts = LanguageMetrics(), LanguageMetrics()
    whole.update(nats, tokens, **sizes)
    for rows in ([2], [0, 1]):
        parts.update(nats[rows], tokens[rows], **{name: size[rows] for name, size in sizes.items()})
    expected = {
        "loss": 2.0,
        "perplexity": exp(2),
        "bits_per_byte": 12 / 20 / log(2),
        "bits_per_char": 12 / 16 / log(2),
        "word_perplexity": exp(4),
    }
    assert whole.compute() == pytest.approx(expected)
    assert parts.with_intervals() == whole.with_intervals()
    assert set(expected) == set(whole.declared)


def test_a_size_that_is_not_known_has_no_figure():
    metric = LanguageMetrics()
    metric.update(torch.tensor([1.0, 2.0]), torch.tensor([1, 1]))
    assert set(metric.compute()) == {"loss", "perplexity"}


def test_intervals_cover_the_truth():
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        tokens = draw.integers(20, 60, size=50)
        rate = draw.gamma(4.0, 0.5, size=50)  # of each sequence, 2 nats a token on average
        metric = LanguageMetrics()
        metric.update(torch.from_numpy(rate * tokens).float(), torch.from_numpy(tokens))
        low, high = metric.with_intervals()["loss"][1]
        held += low <= 2.0 <= high
    assert 0.91 <= held / 300 <= 0.98
