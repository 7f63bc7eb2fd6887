"""Splits of the world of shapes: what they test does not occur where it is withheld, and nowhere else is it tested."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from tfcli.data.synthetic.language import phrase
from tfcli.data.synthetic.objects import COLOURS, HELD_OUT, SHAPES, pair_numbers
from tfcli.data.synthetic.relations import HELD_RELATIONS, RELATIONS, relation
from tfcli.data.synthetic.shapes import ShapesWorld
from tfcli.data.synthetic.splits import FURTHER, SPLITS

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
