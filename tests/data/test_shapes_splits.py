"""Splits of the world of shapes: what they test does not occur where it is withheld, and nowhere else is it tested."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from tfcli.data.common.request import Request
from tfcli.data.common.rows import height, pick, taken
from tfcli.data.synthetic.columns import GIVEN
from tfcli.data.synthetic.language import phrase
from tfcli.data.synthetic.objects import COLOURS, HELD_OUT, SHAPES, pair_numbers
from tfcli.data.synthetic.relations import HELD_RELATIONS, RELATIONS, relation
from tfcli.data.synthetic.shapes import ShapesWorld
from tfcli.data.synthetic.source import Shapes
from tfcli.data.synthetic.splits import FURTHER, SPLITS
from tfcli.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
MANY = np.arange(800)
NAMES = f"({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
STATED = re.compile(rf"{NAMES} ({'|'.join(RELATIONS)}) (?:an? |the )(?:small |medium |large )?{NAMES}")


def stated(texts):
    """Return whether each combination of a pair and a relation that texts state is held out."""
    found = [match.groups() for text in texts for match in STATED.finditer(text)]
    return [
        HELD_RELATIONS[COLOURS.index(colour) * len(SHAPES) + SHAPES.index(shape), RELATIONS.index(how)]
        for colour, shape, how, *_ in found
    ]


def test_a_relation_of_each_pair_is_held_out():
    assert (HELD_RELATIONS.sum(axis=1) == 1).all()
    assert (HELD_RELATIONS[~HELD_OUT].sum(axis=0) == 9).all()


@pytest.mark.parametrize(("k", "vary"), [(2, True), (4, False)])
def test_held_out_relations_are_stated_in_their_split_alone(k, vary):
    def texts(world, split):
        scenes = world.scenes(MANY, split=split)
        return scenes.caption, [question.text for question in scenes.question if question.kind == "relation"], scenes

    world = ShapesWorld(64, k=k, vary=vary, hold_relations=True)
    captions, questions, _ = texts(world, "train")
    assert len(stated(captions)) > 300
    assert len(stated(questions)) > 50
    assert not any(stated(captions) + stated(questions))
    assert 0.2 < np.mean(stated(texts(ShapesWorld(64, k=k, vary=vary), "train")[0])) < 0.3  # where nothing is withheld
    captions, questions, scenes = texts(world, "comp_rel")
    assert len(stated(captions)) == len(stated(questions)) == len(MANY)
    assert all(stated(captions) + stated(questions))
    assert 0.45 < np.mean([question.answer == "yes" for question in scenes.question]) < (0.68 if k == 2 else 0.55)
    for caption, rows in zip(captions, scenes.objects.tolist(), strict=True):
        a, b = ([phrase(row) for row in rows].index(name) for name in re.findall(NAMES.replace("(", "(?:"), caption))
        assert relation(rows[a], rows[b]) in caption
    pairs = pair_numbers(scenes.objects)
    assert not HELD_OUT[pairs].any()
    assert all(len(set(row)) == k for row in pairs.tolist())


def test_a_split_by_number_shows_the_largest_alone():
    few, all_four = ShapesWorld(32, k=3, vary=True), ShapesWorld(32, k=4, vary=True)
    assert set(few.scenes(MANY, label="count").label.tolist()) == {0, 1, 2}
    assert set(all_four.scenes(MANY, split="comp_count", label="count").label.tolist()) == {3}


def test_longer_captions_are_longer_than_any_of_training_and_true():
    world = ShapesWorld(64, k=4, vary=True)
    long = world.scenes(MANY[:300], split="len")
    assert min(len(text.split()) for text in long.caption) > max(len(t.split()) for t in world.scenes(MANY).caption)
    for caption, rows in zip(long.caption, long.objects.tolist(), strict=True):
        assert re.findall(NAMES, caption) == [tuple(phrase(row).split()) for row in rows]
        told = re.findall("|".join(RELATIONS), caption)
        assert told == [relation(a, b) for a, b in pairwise(rows)]


def test_no_image_of_a_further_split_is_one_of_training():
    world = ShapesWorld(16, k=4, vary=True)
    seen = {image.tobytes() for image in world.scenes(np.arange(4000)).image}
    for split in FURTHER:
        assert not seen & {image.tobytes() for image in world.scenes(MANY, split=split).image}, split


def test_robust_splits_show_the_scenes_of_test():
    world = ShapesWorld(32, k=3)
    known = world.scenes(MANY[:50], split="test")
    for split in FURTHER:
        if split.startswith("robust_"):
            found = world.scenes(MANY[:50], split=split)
            assert np.array_equal(found.label, known.label)
            assert not np.array_equal(found.image, known.image)
            shift = ShapesWorld(32, k=3, shift=SPLITS[split].shift).scenes(MANY[:50], split="test")
            assert np.array_equal(found.image, shift.image)


def test_a_split_needs_room_for_its_objects():
    for k, split in ((1, "comp_rel"), (1, "comp_count"), (2, "len")):
        with pytest.raises(ValueError, match=f"`{split}` need `k` of at least {k + 1}"):
            ShapesWorld(32, k=k).scenes(MANY, split=split)


# As a set


def loaded(*columns, **settings):
    sizes = {"num_train": 40, "num_val": 10, "num_test": 12, "num_pairs": 6}
    return Shapes(**sizes, **settings).load(Request(name="shapes", root=Path(), columns=columns))


def test_every_column_is_given_on_demand_and_agrees_with_the_others():
    assert set(OmegaConf.load(CONF / "data" / "shapes.yaml").columns) == set(GIVEN)
    page = set(re.findall(r"`(\w+)`", (CONF.parent / "docs" / "SHAPES.md").read_text()))
    assert {*GIVEN, *FURTHER[:4]} <= page
    rows, plain = np.array([3, 21, 2]), [name for name in GIVEN if name not in ("label", "caption")]
    table = loaded(*plain, size=48).splits["train"]
    assert {len(column) for column in table.values()} == {160}
    cells = {name: [taken(pick(column, rows))[i] for i in range(3)] for name, column in table.items()}
    scenes = ShapesWorld(48, k=4, vary=True).scenes(rows // 4, number=rows % 4)
    assert np.array_equal(cells["image"], scenes.image.transpose(0, 2, 3, 1))
    assert np.array_equal(cells["clip"], scenes.clip.transpose(0, 1, 3, 4, 2))
    assert cells["question"] == [question.text for question in scenes.question]
    for name in ("boxes", "depth", "right", "occluded", "support", "second", "truth", "events"):
        expected = getattr(scenes, name)
        assert np.array_equal(cells[name], np.moveaxis(expected, 1, -1) if name in ("right", "second") else expected)
    only = loaded("image", "mask").splits
    assert {split: height(table) for split, table in only.items()} == {"train": 40, "val": 10, "test": 12}
    named = loaded("image", "label", "boxes")
    assert {name: len(classes) for name, classes in named.classes.items()} == {"label": 48}
    assert loaded("image", "mask", "answer").classes.keys() == {"mask", "answer"}
    assert (taken(named.splits["train"]["boxes"])[0] > 0).any(axis=-1).tolist() == [True]  # one object
    captioned = loaded("image", "caption", "boxes").splits
    assert height(captioned["test"]) == 6
    assert [len(texts) for texts in taken(captioned["train"]["caption"])[:3]] == [5, 5, 5]


def test_a_set_withholds_from_training_what_its_test_split_shows():
    def pairs(found, split):
        return [text for texts in taken(found.splits[split]["caption"]) for text in texts]

    relations = loaded("image", "caption", test_split="comp_rel")
    assert not any(stated(pairs(relations, "train") + pairs(relations, "val")))
    assert stated(pairs(relations, "test")) == [True] * 6
    asked = loaded("image", "question", "answer", test_split="comp_rel").splits
    assert all(stated(asked["comp_rel"]["question"]))
    assert not any(stated([*asked["train"]["question"], *asked["val"]["question"]]))
    counted = loaded("image", "label", test_split="comp_count", label="count", objects=3)
    assert [set(rows["label"].tolist()) for rows in counted.splits.values()] == [{0, 1}, {0, 1}, {2}]
    seen = loaded("image", "objects", test_split="comp_count").splits
    assert {int(rows[:, -1].sum()) for rows in taken(seen["train"]["objects"])} == {1, 2, 3}
    assert {int(rows[:, -1].sum()) for rows in taken(seen["comp_count"]["objects"])} == {4}
    assert min(len(text.split()) for text in pairs(loaded("image", "caption", test_split="len"), "test")) > 13
    blurred = loaded("image", "label", test_split="robust_blur")
    by_shift = loaded("image", "label", shift="blur")
    pictures = [taken(found.splits["test"]["image"]) for found in (blurred, by_shift)]
    assert np.array_equal(*pictures)
    assert blurred.notes == ["shapes: tested on scenes that differ from those of training (test_split=robust_blur)"]


def test_splits_that_a_set_cannot_have_are_refused():
    for columns, settings, said in (
        (("image", "label"), {"test_split": "len"}, "is for captions, but what is asked for is image, label"),
        (("image", "mask"), {"test_split": "len"}, "is for captions, but"),
        (("image", "label"), {"test_split": "comp_count"}, r"data\.label=count, but"),
        (("image", "mask"), {"test_split": "comp_count", "scene_objects": 1}, r"data\.scene_objects is 1"),
        ((), {"test_split": "robust_blur", "shift": "noise"}, "both change pictures"),
        ((), {"test_split": "robust_texture", "texture": False}, "neither"),
    ):
        with pytest.raises(ConfigError, match=said):
            loaded(*columns, **settings)
