from __future__ import annotations

import hashlib
from typing import get_args

import numpy as np
import pytest

from tfcli.data.common.request import Request
from tfcli.data.synthetic import objects as placing
from tfcli.data.synthetic import pictures, shifts
from tfcli.data.synthetic.objects import COLOURS, HELD_OUT, SHAPES
from tfcli.data.synthetic.relations import relation
from tfcli.data.synthetic.scenes import FIELDS
from tfcli.data.synthetic.shapes import ShapesWorld
from tfcli.data.synthetic.source import Shapes
from tfcli.data.synthetic.vocabulary import vocabulary
from tfcli.errors import ConfigError


def test_a_scene_alone_equals_itself_in_a_batch():
    world = ShapesWorld(64, k=4, vary=True)
    together = world.batch(np.arange(100), fields=FIELDS, label="count")
    alone = world.batch(np.array([57]), fields=FIELDS, label="count")
    for name in FIELDS:
        assert np.array_equal(together[name][57], alone[name][0]), name


def test_addresses_matter():
    def image(seed=0, **kwargs):
        return ShapesWorld(32, k=2, seed=seed).batch(np.arange(4), fields=("image",), **kwargs)["image"]

    assert np.array_equal(image(), image())
    for other in (image(seed=1), image(split="val"), image(stream=9)):
        assert not np.array_equal(image(), other)


@pytest.mark.parametrize(
    ("size", "k", "digest"),
    [(32, 1, "2aad8a450deb90f9"), (32, 2, "f96a23300299ea2a"), (64, 4, "d2ab91117c5106c2")],
)
def test_the_format_is_pinned(size, k, digest):
    batch = ShapesWorld(size, k=k).batch(np.arange(8), fields=("image", "objects", "caption"))
    found = hashlib.sha256(np.ascontiguousarray(batch["image"]).tobytes())
    found.update(np.ascontiguousarray(batch["objects"], dtype="<i8").tobytes())
    found.update("\n".join(batch["caption"]).encode())
    assert found.hexdigest()[:16] == digest, "what an index shows has changed: raise VERSION and this digest"


def test_held_out_pairs_never_occur_in_training():
    assert HELD_OUT.sum() == 12
    held = {i for i, out in enumerate(HELD_OUT) if out}
    world = ShapesWorld(32, k=4)
    for split in ("train", "val", "test"):
        objects = world.batch(np.arange(2500), split=split, fields=("objects",))["objects"]
        assert not held & set((objects[:, :, 0] * len(SHAPES) + objects[:, :, 1]).ravel().tolist())
    comp = world.batch(np.arange(2500), split="comp", fields=("objects", "label"))
    assert set(comp["label"].tolist()) == held
    others = comp["objects"][:, 1:, 0] * len(SHAPES) + comp["objects"][:, 1:, 1]
    assert not held & set(others.ravel().tolist())
    names = {f"{COLOURS[i // len(SHAPES)]} {SHAPES[i % len(SHAPES)]}" for i in held}
    captions = world.batch(np.arange(2500), fields=("caption",))["caption"]
    assert not any(name in caption for name in names for caption in captions)


def test_objects_of_a_scene_differ_in_place_and_pair():
    objects = ShapesWorld(64, k=4).batch(np.arange(500), fields=("objects",))["objects"]
    pairs = objects[:, :, 0] * len(SHAPES) + objects[:, :, 1]
    assert all(len(set(row)) == 4 for row in pairs.tolist())
    assert all(len({tuple(o) for o in scene}) == 4 for scene in objects[:, :, 3:5].tolist())


def test_masks_boxes_and_picture_agree():
    world = ShapesWorld(48, k=3, texture=False, vary=True)
    batch = world.batch(np.arange(60), fields=("image", "objects", "instance", "semantic", "boxes", "amodal"))
    for picture, objects, ids, semantic, boxes, whole in zip(
        *(batch[f] for f in ("image", "objects", "instance", "semantic", "boxes", "amodal")), strict=True
    ):
        assert np.array_equal(ids > 0, semantic > 0)
        for slot, (row, box, full) in enumerate(zip(objects, boxes, whole, strict=True)):
            mask = ids == slot + 1
            if not row[6]:
                assert not mask.any()
                assert not full.any()
            if not mask.any():
                assert not box.any()
                continue
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert full[0] <= box[0] < box[2] <= full[2]
            assert full[1] <= box[1] < box[3] <= full[3]
            assert set(semantic[mask].tolist()) == {row[0] * len(SHAPES) + row[1] + 1}
            assert len(np.unique(picture[:, mask], axis=1).T) == 1
        assert len(np.unique(picture[:, ids == 0], axis=1).T) == 1


def test_captions_are_true_and_closed():
    batch = ShapesWorld(64, k=2).batch(np.arange(300), fields=("caption", "objects"))
    words = set(vocabulary())
    for caption, (a, b) in zip(batch["caption"], batch["objects"], strict=True):
        assert set(caption.split()) <= words
        assert f"{COLOURS[a[0]]} {SHAPES[a[1]]} {relation(a, b)}" in caption
        assert caption.endswith(f"{COLOURS[b[0]]} {SHAPES[b[1]]}")


@pytest.mark.parametrize(
    ("label", "objects", "count"), [("colour", 1, 8), ("shape", 1, 6), ("pair", 1, 48), ("count", 3, 3)]
)
def test_as_a_set(label, objects, count, tmp_path):
    source = Shapes(label=label, objects=objects, num_train=300, num_val=50, num_test=60)
    loaded = source.load(Request(name="shapes", root=tmp_path))
    assert len(loaded.classes["label"]) == count
    assert loaded.counts == {"train": 300, "val": 50, "test": 60}
    train = loaded.splits["train"]
    assert train["label"].max() < count
    assert train["image"].take(np.array([5, 2])).shape == (2, 32, 32, 3)


def test_wrong_settings_are_refused(tmp_path):
    for kwargs in (
        {"label": "count"},
        {"label": "pair", "objects": 2},
    ):
        with pytest.raises(ConfigError):
            Shapes(**kwargs)
    with pytest.raises(ValueError, match="but is 5"):
        ShapesWorld(k=5)
    with pytest.raises(ValueError, match=r"outline, .* but is 'outlines'"):
        ShapesWorld(shift="outlines")
    with pytest.raises(ValueError, match=r"in 0\.\.1, but is 2"):
        ShapesWorld(tag_noise=2)
    with pytest.raises(ValueError, match="at least 1 segment of 2 frames, but has 4 segments of 1"):
        ShapesWorld(frames=1)
    with pytest.raises(ValueError, match="at least 16"):
        ShapesWorld(8)
    with pytest.raises(ValueError, match="Fields are"):
        ShapesWorld().batch(np.arange(2), fields=("height",))


@pytest.mark.parametrize("k", [1, 3])
def test_a_bag_of_patches_does_not_say_which_quadrant_the_circle_is_in(k, monkeypatch):
    """Moving tiles moves patches and changes nothing else, and where they lie has nothing to do with what they show."""
    world = ShapesWorld(32, k=k, quadrants=True)
    seen = world.batch(np.arange(4000), fields=("image", "objects", "label"), label="quadrant")
    circle = SHAPES.index("circle")
    assert (seen["objects"][:, 0, 1] == circle).all()
    assert not (seen["objects"][:, 1:, 1] == circle).any()
    side = world.size // 2
    tiles = seen["image"].reshape(-1, 3, 2, side, 2, side).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 4, 3, side, side)
    own = seen["objects"][:, 0]
    assert np.array_equal(2 * (own[:, 4] >= side) + (own[:, 3] >= side), seen["label"])
    # The same scenes with their tiles elsewhere have the same tiles.
    place = placing.tiles
    for module in (placing, pictures):
        monkeypatch.setattr(module, "tiles", lambda words: (place(words) + 1) % 4)
    moved = world.batch(np.arange(20), fields=("image", "label"), label="quadrant")
    assert np.array_equal(moved["label"], (seen["label"][:20] + 1) % 4)
    elsewhere = (
        moved["image"].reshape(-1, 3, 2, side, 2, side).transpose(0, 2, 4, 1, 3, 5).reshape(20, 4, 3, side, side)
    )
    assert np.array_equal(np.roll(tiles[:20], 1, axis=1), elsewhere)
    # Its place is independent of its contents: of colour, size, place within the tile and brightness.
    counts = np.bincount(seen["label"], minlength=4)
    assert chi2(counts[None]) < 16.3  # 3 degrees of freedom, p = 0.001
    shown = tiles[np.arange(len(tiles)), seen["label"]].reshape(len(tiles), -1).mean(1)
    for values in (
        own[:, 0],
        own[:, 2],
        own[:, 3] % side,
        own[:, 4] % side,
        np.digitize(shown, np.quantile(shown, [0.5])),
    ):
        table = np.array([np.bincount(seen["label"][values == v], minlength=4) for v in np.unique(values)])
        freedom = 3 * (len(table) - 1)
        assert chi2(table) < freedom + 4 * (2 * freedom) ** 0.5 + 8


def chi2(table: np.ndarray) -> float:
    """Of independence; of one row, of equal counts."""
    expected = table.sum(1, keepdims=True) * (table.sum(0) / table.sum() if len(table) > 1 else np.full(4, 0.25))
    return float(((table - expected) ** 2 / expected.clip(1e-9)).sum())


def test_other_scenes_are_as_they_were_before_there_were_quadrants():
    assert not ShapesWorld(32, k=4).quadrants  # `test_the_format_is_pinned` pins them
    with pytest.raises(ValueError, match="quadrants"):
        ShapesWorld(33, quadrants=True)


def test_the_position_question_as_a_set():
    found = Shapes(label="quadrant", num_train=50, num_val=5, num_test=20)
    loaded = found.load(Request(name="shapes", root=None))
    assert loaded.classes["label"] == ["top left", "top right", "bottom left", "bottom right"]
    assert set(loaded.splits["train"]["label"].tolist()) == {0, 1, 2, 3}


SHIFTS = get_args(shifts.Shift)


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_draws_the_same_scenes_otherwise(shift):
    fields = ("image", "objects", "label", "caption", "instance", "boxes")
    known = ShapesWorld(64, k=3).batch(np.arange(40), fields=fields)
    found = ShapesWorld(64, k=3, shift=shift).batch(np.arange(40), fields=fields)
    alone = ShapesWorld(64, k=3, shift=shift).batch(np.array([7]), fields=fields)
    assert np.array_equal(found["image"][7], alone["image"][0])
    columns = [0, 1, 2, 5, 6] if shift == "scale" else range(7)  # smaller objects may stand nearer to the border
    assert np.array_equal(found["objects"][..., columns], known["objects"][..., columns])
    assert np.array_equal(found["label"], known["label"])
    if shift != "scale":
        assert np.array_equal(found["instance"], known["instance"])
        assert found["caption"] == known["caption"]
    assert np.array_equal(found["image"], known["image"]) == (shift == "none")


def test_shifts_are_what_they_are_called():
    def drawn(shift, **kwargs):
        return ShapesWorld(64, k=2, shift=shift, **kwargs).scenes(np.arange(100))

    plain, outline, scale = drawn("none"), drawn("outline"), drawn("scale")
    flat, ground = drawn("outline", texture=False), drawn("background", texture=False)
    for ids, picture in zip(flat.instance[:5], flat.image[:5], strict=True):
        near = np.pad(ids, 1, mode="edge")
        inside = np.array(
            [
                [len(set(near[y + 1, x : x + 3]) | set(near[y : y + 3, x + 1])) == 1 for x in range(64)]
                for y in range(64)
            ]
        )
        shown = (picture != picture[:, ids == 0][:, :1, None]).any(0)
        assert np.array_equal(shown, (ids > 0) & ~inside)
    assert not np.array_equal(outline.image, plain.image)
    behind = ground.image.transpose(0, 2, 3, 1)[ground.instance == 0]
    assert len(np.unique(behind, axis=0)) == len(COLOURS)
    area = [(s.amodal[..., 2:] - s.amodal[..., :2]).prod(-1).mean() for s in (plain, scale)]
    assert area[1] / area[0] == pytest.approx(0.49, abs=0.1)
    noise = drawn("noise").image.astype(int) - plain.image
    assert noise.mean() == pytest.approx(0, abs=1)
    assert noise.std() == pytest.approx(26, abs=2)
    edges = [np.abs(np.diff(s.image.astype(int), axis=3)).mean() for s in (plain, drawn("blur"), drawn("texture"))]
    assert edges[1] < edges[0] / 2
    assert edges[2] != edges[0]


def test_only_the_test_pictures_of_a_set_are_shifted(tmp_path):
    sizes = {"num_train": 20, "num_val": 20, "num_test": 20, "num_pairs": 20}
    request, rows = Request(name="shapes", root=tmp_path, columns=("image", "caption")), np.arange(20)
    plain, shifted = (Shapes(**sizes, shift=shift).load(request) for shift in ("none", "outline"))
    for part in ("splits", "beside"):
        for split in ("train", "val", "test"):
            a, b = (getattr(loaded, part)[split]["image"].take(rows) for loaded in (plain, shifted))
            assert np.array_equal(a, b) == (split != "test")
    assert shifted.notes == ["shapes: tested on pictures that are drawn otherwise (shift=outline)"]
    with pytest.raises(ConfigError, match="neither"):
        Shapes(shift="texture", texture=False)
