"""Our ranks against a sort of everything, in any batches and any order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.metrics.retrieval import RetrievalMetrics
from tfcli.tasks.contrastive import contrastive_loss


def sample(images: int, most: int, seed: int, *, width: int = 6):
    """Images, their texts (1 to `most` each, loosely similar to them) and whose each is."""
    draw = torch.Generator().manual_seed(seed)
    image = torch.randn(images, width, generator=draw)
    owner = torch.repeat_interleave(torch.arange(images), torch.randint(1, most + 1, (images,), generator=draw))
    text = image[owner] + 0.9 * torch.randn(len(owner), width, generator=draw)
    return image, text, owner


def sorted_ranks(image, text, owner) -> tuple[np.ndarray, np.ndarray]:
    """Rank of the nearest own text of each image and of the image of each text, by whole stable sorts."""
    cosine = (torch.nn.functional.normalize(image, dim=1) @ torch.nn.functional.normalize(text, dim=1).T).numpy()
    of_image = [
        1 + next(place for place, t in enumerate(np.argsort(-row, kind="stable")) if owner[t] == i)
        for i, row in enumerate(cosine)
    ]
    of_text = [
        1 + int(np.flatnonzero(np.argsort(-column, kind="stable") == int(owner[t]))[0])
        for t, column in enumerate(cosine.T)
    ]
    return np.array(of_image), np.array(of_text)


@settings(max_examples=25, deadline=None)
@given(images=st.integers(1, 40), most=st.integers(1, 5), seed=st.integers(0, 99))
def test_figures_are_those_of_a_whole_sort(images, most, seed):
    image, text, owner = sample(images, most, seed)
    metric = RetrievalMetrics(group_size=16)
    metric.update(image, torch.arange(images), text, owner)
    found = metric.compute(10.0)
    for way, rank in zip(("image_to_text", "text_to_image"), sorted_ranks(image, text, owner), strict=True):
        for k in (1, 5, 10):
            assert found[f"{way}_r{k}"] == pytest.approx((rank <= k).mean())
        assert found[f"{way}_median_rank"] == np.median(rank)
    assert set(found) == set(metric.declared)


def test_batches_and_their_order_change_nothing():
    image, text, owner = sample(57, 4, 3)
    whole, parts = RetrievalMetrics(group_size=16), RetrievalMetrics(group_size=16)
    whole.update(image, torch.arange(57), text, owner)
    for rows in torch.randperm(57, generator=torch.Generator().manual_seed(0)).split(10):
        own = torch.cat([torch.nonzero(owner == row)[:, 0] for row in rows])
        parts.update(image[rows], rows, text[own], owner[own])
    for name, (value, interval) in whole.with_intervals(10.0).items():
        again, between = parts.with_intervals(10.0)[name]
        assert again == pytest.approx(value, abs=1e-6), name
        assert between == pytest.approx(interval, abs=1e-6)
        assert interval[0] <= value <= interval[1]


def test_one_group_is_the_contrastive_loss():
    image, text, owner = sample(12, 1, 5)
    metric = RetrievalMetrics(group_size=12)
    metric.update(image, torch.arange(12), text, owner)
    assert metric.compute(14.0)["loss"] == pytest.approx(float(contrastive_loss(image, text, 14.0)), abs=1e-5)


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_a_model_that_tells_nothing_apart_is_at_chance(value):
    metric = RetrievalMetrics()
    metric.update(torch.full((40, 4), value), torch.arange(40), torch.full((40, 4), value), torch.arange(40))
    found, chance = metric.compute(1.0), metric.chance()
    for name, share in chance.items():
        assert found[name] == pytest.approx(share), name


def test_chance_with_several_texts_an_image():
    metric = RetrievalMetrics()
    metric.update(torch.randn(10, 4), torch.arange(10), torch.randn(50, 4), torch.arange(10).repeat_interleave(5))
    assert metric.chance()["image_to_text_r1"] == pytest.approx(0.1)
    assert metric.chance()["text_to_image_r5"] == pytest.approx(0.5)
    assert 0.4 < metric.chance()["image_to_text_r5"] < 0.5  # five of fifty, drawn without putting back


def test_what_cannot_be_measured_is_said():
    metric = RetrievalMetrics()
    with pytest.raises(ValueError, match="nothing to measure"):
        metric.compute(1.0)
    metric.update(torch.randn(2, 4), torch.tensor([0, 2]), torch.randn(2, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="owner"):
        metric.compute(1.0)
    metric.reset()
    with pytest.raises(ValueError, match="nothing to measure"):
        metric.compute(1.0)
