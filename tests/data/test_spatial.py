"""Parts of a sample stay together: masks, boxes, points and disparities under every augmentation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from tfcli.data.common.counter_rng import hash64
from tfcli.data.images.masks import VOID
from tfcli.data.images.resize import Fit, nearest
from tfcli.data.images.spatial import MisfitError, assembled, sanitized
from tfcli.data.images.transforms import Augment, EvalTransform, TrainTransform

SEEDS = hash64(7, np.arange(6))
COLOURS = np.array([[40, 60, 90], [200, 150, 120], [120, 220, 30]], dtype=np.uint8)
AUGMENTS = {
    "resized": Augment(),
    "padded": Augment(crop="padded"),
    "none": Augment(crop="none"),
    "randaugment": Augment(randaugment=12, randaugment_ops=3),
    "growing": Augment(crop="padded", randaugment=9, randaugment_kind="timm", randaugment_ops=3, randaugment_std=0.5),
    "autoaugment": Augment(crop="none", autoaugment="imagenet", color_jitter=0.3),
}


def scene(rows: int = 48, columns: int = 64) -> dict[str, np.ndarray]:
    """Return two bars: a mask, the image that it is painted in, the boxes, the middle of the first and a corner."""
    mask = np.zeros((rows, columns), dtype=np.uint8)
    mask[8:32, 28:46] = 1
    mask[38:47, 2:17] = 2
    boxes = np.array([box_of(mask == number) for number in (1, 2)])
    return {"image": COLOURS[mask], "mask": mask, "boxes": boxes, "points": np.array([[37, 20], [0, 0]])}


def box_of(chosen: np.ndarray | Tensor) -> list[int]:
    """Return left, top, right and bottom of what is chosen; zeros where nothing is."""
    y, x = np.nonzero(np.asarray(chosen))
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1] if len(x) else [0, 0, 0, 0]


def core(chosen: Tensor, margin: int = 2) -> Tensor:
    """Return the pixels whose neighbours are all chosen; beyond the edges none is."""
    others = pad((~chosen).float()[None], [margin] * 4, value=1.0)
    return max_pool2d(others, 2 * margin + 1, 1)[0] == 0


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_mask_stays_on_what_is_painted(name):
    transform = TrainTransform(Fit(40, 1.0), augment=AUGMENTS[name], fill=(1.0, 2.0, 3.0))
    seen = 0
    for seed in SEEDS:
        sample = transform.sample(assembled(scene()), seed)
        image, mask = sample["image"].float(), sample["mask"]
        assert image.shape == (3, 40, 40)
        assert set(np.unique(mask).tolist()) <= {0, 1, 2, VOID}
        for number in (0, 1, 2, VOID):
            inner = core(mask == number)
            if inner.sum() > 4:
                seen += 1
                colours = image[:, inner]
                odd = ((colours - colours.median(1, keepdim=True).values).abs() > 8).any(0)
                assert float(odd.float().mean()) < 0.02, (name, number)
    assert seen > 8  # the background and more


@pytest.mark.parametrize("name", AUGMENTS)
def test_an_image_is_the_same_whatever_comes_with_it(name):
    transform = TrainTransform(Fit(40, 1.0), augment=AUGMENTS[name])
    square = {**scene(48, 48), "image": np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)}
    whole = transform.batch(square["image"][None].repeat(6, 0), SEEDS)
    for seed, image in zip(SEEDS, whole, strict=True):
        assert torch.equal(transform.sample_of_batch(assembled(square), seed)["image"], image)
        assert torch.equal(transform.sample(assembled(square), seed)["image"], transform.one(square["image"], seed))
    assert not torch.equal(whole[0], whole[1])


@pytest.mark.parametrize(("name", "off"), [("resized", 1.0), ("padded", 0), ("none", 0)])
def test_boxes_are_those_of_the_mask(name, off):
    fit = Fit(48, 1.0) if name != "resized" else Fit(32)
    transform, lost = TrainTransform(fit, augment=AUGMENTS[name]), 0
    for run in (transform.sample, transform.sample_of_batch):
        for seed in SEEDS:
            sample = run(assembled(scene(48, 48)), seed)
            boxes, valid = sanitized(sample["boxes"])
            for number, (box, there) in enumerate(zip(boxes.tolist(), valid.tolist(), strict=True), 1):
                expected = box_of(sample["mask"] == number)
                if there:
                    assert np.abs(np.array(box) - expected).max() <= off
                else:
                    assert box == [0, 0, 0, 0]
                    assert min(expected[2] - expected[0], expected[3] - expected[1]) <= 1
                    lost += 1
    assert lost or name != "resized"  # some crops lose a box, so that both branches are looked at


def test_points_follow():
    for seed in SEEDS:
        sample = TrainTransform(Fit(40, 1.0), augment=AUGMENTS["resized"]).sample(assembled(scene()), seed)
        x, y = sample["points"][0].round().int().tolist()
        there = bool(sanitized(sample["points"])[1][0])
        assert there == (0 <= x < 40 and 0 <= y < 40)
        assert not there or sample["mask"][y, x] == 1


@pytest.mark.parametrize("rule", ["shorter", "longer", "squash", "none"])
@pytest.mark.parametrize("size", [20, 48, 70])
def test_evaluation_has_one_geometry(rule, size):
    sample = EvalTransform(Fit(size, 1.0, rule, fill=(9, 9, 9))).sample(assembled(scene()))
    image, mask = sample["image"].float(), sample["mask"]
    assert image.shape == (3, *mask.shape) == (3, size, size)
    for number in (0, 1, 2, VOID):
        inner = core(mask == number, 1)
        colour = torch.tensor(COLOURS[number].tolist() if number < 3 else [9, 9, 9]).float()
        assert not inner.any() or (image[:, inner] - colour[:, None]).abs().max() < 2
    assert bool((mask == VOID).any()) == (rule == "longer" or (rule == "none" and size > 48))
    boxes, valid = sanitized(sample["boxes"])
    for number in (1, 2):
        if valid[number - 1]:
            assert np.abs(boxes[number - 1].numpy() - box_of(mask == number)).max() <= 1


@pytest.mark.parametrize(("length", "wanted"), [(63, 40), (40, 64), (33, 7), (7, 33), (375, 224), (5, 5)])
def test_nearest_is_pillows(length, wanted):
    row = np.arange(length, dtype=np.int32)[None]
    expected = np.asarray(Image.fromarray(row).resize((wanted, 1), Image.Resampling.NEAREST))[0]
    assert np.array_equal(nearest(length, wanted), expected)


@pytest.mark.parametrize("augment", [Augment(flip=0.0, scale=(0.3, 0.6)), Augment(crop="none", flip=0.0)])
def test_disparities_grow_with_the_image(augment):
    rows, columns, disparity = 40, 80, 6
    wave = np.cumsum(np.random.default_rng(0).integers(1, 3, columns + disparity)).astype(np.uint8)
    pair = {
        "image": np.broadcast_to(wave[None, :columns, None], (rows, columns, 3)),
        "right": np.broadcast_to(wave[None, disparity:, None], (rows, columns, 3)),
        "disparity": np.full((rows, columns), disparity, dtype=np.float32),
    }
    pair["disparity"][:4] = -1
    for seed in SEEDS:
        sample = TrainTransform(Fit(64, 1.0), augment=augment).sample(assembled(pair), seed)
        field = sample["disparity"]
        found = float(field.max())
        assert set(np.unique(field)) <= {-1, np.float32(found)}
        assert found > disparity
        at = torch.arange(32, 60)
        place = at - found  # between two columns
        low = place.floor().long()
        right, left = sample["right"][0, -1].float(), sample["image"][0, -1].float()
        there = right[low] * (1 - place + low) + right[low + 1] * (place - low)
        assert (there - left[at]).abs().max() < 2


def test_a_reduced_image_takes_its_parts_along():
    parts = scene()
    reduced = np.asarray(Image.fromarray(parts["image"]).resize((32, 24), Image.Resampling.BILINEAR))
    sample = assembled({**parts, "image": reduced}, full=(48, 64))
    assert sample["mask"].shape == (24, 32)
    assert sample["boxes"].tolist() == (parts["boxes"] / 2).tolist()
    assert sample["points"].tolist() == [[18.5, 10], [0, 0]]
    with pytest.raises(MisfitError, match="`mask` is 20 x 64, which are not the proportions of 24 x 32"):
        assembled({"image": reduced, "mask": parts["mask"][:20]})
    with pytest.raises(MisfitError, match="`right` is 48 x 64, but `image` is 24 x 32"):
        assembled({"image": reduced, "right": parts["image"]})


def test_frames_of_a_clip_have_one_geometry_and_erasing_is_of_pictures_alone():
    clip = np.repeat(scene()["image"][None], 3, 0)
    augment = Augment(randaugment=9, color_jitter=0.4, erasing=1.0)
    for kind in ("mean", "pixel"):
        transform = TrainTransform(Fit(24), augment=replace(augment, erasing_fill=kind), noise=(50.0,) * 3)
        sample = transform.sample(assembled({"clip": clip, "mask": scene()["mask"]}), SEEDS[0])
        assert sample["clip"].shape == (3, 3, 24, 24)
        assert torch.equal(sample["clip"][0], sample["clip"][2])
        assert set(np.unique(sample["mask"]).tolist()) <= {0, 1, 2, VOID}


@pytest.mark.parametrize("name", ["randaugment", "growing", "autoaugment"])
def test_boxes_hold_what_policies_turn(name):
    turned = 0
    for seed in hash64(3, np.arange(12)):
        sample = TrainTransform(Fit(48), augment=replace(AUGMENTS[name], crop="none")).sample(assembled(scene()), seed)
        boxes, valid = sanitized(sample["boxes"])
        for number in (1, 2):
            left, top, right, bottom = box_of(sample["mask"] == number)
            if right and valid[number - 1]:
                box = boxes[number - 1] + torch.tensor([-2, -2, 2, 2])
                assert box[0] <= left and box[1] <= top and right <= box[2] and bottom <= box[3]  # noqa: PT018
                turned += bool(sample["mask"].eq(VOID).any())
    assert turned > 1
