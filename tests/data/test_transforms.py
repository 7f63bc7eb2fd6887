from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from tfcli.data.common.counter_rng import hash64
from tfcli.data.images.arrays import mirror, one_batch, shift
from tfcli.data.images.mixing import Mix
from tfcli.data.images.resize import Fit
from tfcli.data.images.transforms import (
    Augment,
    EvalTransform,
    TrainTransform,
    normalise,
)

ALL = Augment(crop="resized", randaugment=9, color_jitter=0.4, erasing=0.5)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "augment",
    [
        Augment(crop="padded"),
        Augment(crop="none"),
        ALL,
        Augment(crop="padded", erasing=1.0),
        Augment(crop="padded", autoaugment="cifar10", erasing=1.0, erasing_fill="pixel"),
        Augment(crop="none", randaugment=9, randaugment_kind="timm", randaugment_std=0.5),
    ],
)
def test_a_sample_is_the_same_in_any_batch(images, augment):
    transform, seeds = TrainTransform(Fit(32, 1.0), augment=augment), hash64(0, np.arange(6))
    together = transform.batch(images, seeds)
    assert together.shape == (6, 3, 32, 32)
    assert together.dtype == torch.uint8
    for i in range(6):
        assert torch.equal(transform.batch(images[i : i + 1], seeds[i : i + 1])[0], together[i])
    assert not torch.equal(transform.batch(images, hash64(1, np.arange(6))), together)


def test_random_states_outside_stay(images):
    torch.manual_seed(0)
    random.seed(0)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    TrainTransform(Fit(24), augment=ALL).one(images[0], np.uint64(5))
    TrainTransform(Fit(24), augment=ALL).batch(images, hash64(np.arange(6)))
    deit = Augment(randaugment=9, randaugment_kind="timm", randaugment_std=0.5, erasing=1.0, erasing_fill="pixel")
    TrainTransform(Fit(24), augment=deit).batch(images, hash64(np.arange(6)))
    Mix(Augment(mixup=0.2, cutmix=1.0), num_classes=3)(torch.ones(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]), seed=3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert np.array_equal(before[2], np.random.get_state()[1])


def test_shift_is_a_crop_of_the_padded_image(images):
    moved = shift(images, hash64(np.arange(6)), padding=4)
    for before, after in zip(images, moved, strict=True):
        padded = np.pad(before, ((4, 4), (4, 4), (0, 0)))
        crops = (padded[y : y + 32, x : x + 32] for y in range(9) for x in range(9))
        assert any(np.array_equal(crop, after) for crop in crops)
    offsets = shift(np.broadcast_to(images[:1], (300, 32, 32, 3)).copy(), hash64(np.arange(300)), padding=4)
    assert len(np.unique(offsets.reshape(300, -1), axis=0)) > 70


def test_mirror_share(images):
    image = one_batch(images)
    many = image[:1].expand(1000, -1, -1, -1)
    turned = mirror(many, hash64(np.arange(1000)), 0.3)
    share = (turned != many).flatten(1).any(1).float().mean()
    assert 0.25 < share < 0.35
    assert torch.equal(mirror(image, hash64(np.arange(6)), 1.0), image.flip(3))
    assert mirror(image, hash64(np.arange(6)), 0.0) is image


def test_evaluation_geometry(images):
    assert torch.equal(EvalTransform(Fit(32, 1.0)).batch(images).permute(0, 2, 3, 1), torch.from_numpy(images))
    assert EvalTransform(Fit(64, 1.0)).batch(images).shape == (6, 3, 64, 64)
    long = np.zeros((64, 128, 3), dtype=np.uint8)
    long[:, 32:96] = 255
    assert EvalTransform(Fit(56)).one(long).min() == 255
    for shape in ((1, 1, 3), (1, 10, 3), (7, 3, 3)):
        assert EvalTransform(Fit(16)).one(np.zeros(shape, dtype=np.uint8)).shape == (3, 16, 16)


def test_erasing_paints_the_mean():
    augment = Augment(crop="none", flip=0.0, erasing=1.0)
    result = TrainTransform(Fit(32, 1.0), augment=augment, fill=(10.0, 20.0, 30.0)).batch(
        np.full((2, 32, 32, 3), 200, dtype=np.uint8), hash64(np.arange(2))
    )
    colours = {tuple(c) for c in result.permute(0, 2, 3, 1).reshape(-1, 3).tolist()}
    assert colours == {(200, 200, 200), (10, 20, 30)}


def test_mixing_gives_matching_targets():
    image = torch.stack([torch.full((3, 8, 8), float(i)) for i in range(4)])
    label = torch.arange(4)
    for augment in (Augment(mixup=1.0), Augment(cutmix=1.0)):
        mixed, target = Mix(augment, num_classes=4)(image, label, seed=11)
        assert torch.allclose(target.sum(1), torch.ones(4))
        # A class is its own grey value: the mean of the picture is the expected class of the target.
        assert torch.allclose(mixed.mean((1, 2, 3)), target @ torch.arange(4.0), atol=1e-5)
    assert not Mix(Augment(), num_classes=4)
    assert Mix(Augment(cutmix=1), num_classes=4)(image, label, seed=3)[1].shape == (4, 4)  # a whole number is a number


def test_normalise():
    image = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    result = normalise(image, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))
    assert result[0, :, 0, 0].tolist() == pytest.approx([2.0, 1.0, 0.5])
    assert normalise(result, (0.5,) * 3, (0.5,) * 3) is result


@pytest.mark.parametrize(
    ("augment", "reason"),
    [
        ({"crop": "square"}, "one of resized, padded, none"),
        ({"scale": (1.0, 0.08)}, r"must be \(least, most\), but is \[1, 0.08\]"),
        ({"autoaugment": "pets"}, "one of none, imagenet, cifar10, svhn"),
        ({"randaugment": 9, "autoaugment": "imagenet"}, "not both"),
        ({"randaugment": 12, "randaugment_kind": "timm"}, "at most 10"),
        ({"randaugment": 9, "randaugment_std": 0.5}, "randaugment_kind=timm"),
    ],
)
def test_what_cannot_be_is_refused(augment, reason):
    with pytest.raises(ValueError, match=reason):
        Augment(**augment)


def test_colours_of_self_supervision(images):
    grey = TrainTransform(Fit(32, 1.0), augment=Augment(crop="none", flip=0.0, grayscale=1.0))
    result = grey.batch(images, hash64(np.arange(6)))
    assert torch.equal(result[:, 0], result[:, 1])
    assert torch.equal(result[:, 0], result[:, 2])
    light = TrainTransform(Fit(32, 1.0), augment=Augment(crop="none", flip=0.0, solarize=1.0))
    assert int(light.batch(images, hash64(np.arange(6))).max()) < 128
    for change in ("blur", "color_jitter", "hue"):
        still = Augment(crop="none", flip=0.0, **{change: 0.5}, jitter_fraction=0.5)
        result = TrainTransform(Fit(32, 1.0), augment=still).batch(images[:1].repeat(200, 0), hash64(np.arange(200)))
        share = (result != one_batch(images[:1])).flatten(1).any(1).float().mean()
        assert 0.35 < float(share) < 0.65, change
    blurred = TrainTransform(Fit(32, 1.0), augment=Augment(crop="none", flip=0.0, blur=1.0))
    assert float(blurred.batch(images, hash64(np.arange(6))).float().std()) < 0.8 * float(images.std())
