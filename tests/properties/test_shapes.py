"""Worlds of shapes drawn by chance: every column can be made, and pixels, programs and views agree."""

from __future__ import annotations

from typing import get_args

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as some

from tfcli.data.synthetic.programs import execute
from tfcli.data.synthetic.scenes import FIELDS
from tfcli.data.synthetic.shapes import FEWEST, ShapesWorld
from tfcli.data.synthetic.shifts import Shift
from tfcli.data.synthetic.splits import SPLITS

WORLDS = some.builds(
    ShapesWorld,
    some.integers(16, 48),
    k=some.integers(1, 4),
    seed=some.integers(0, 2**40),
    texture=some.booleans(),
    vary=some.booleans(),
    tag_noise=some.floats(0, 1),
    segments=some.integers(1, 3),
    frames=some.integers(2, 3),
    hold_relations=some.booleans(),
)
INDICES = some.lists(some.integers(0, 2**50), min_size=1, max_size=6).map(np.array)


@settings(max_examples=25, deadline=None)
@given(WORLDS, INDICES, some.sampled_from(list(SPLITS)), some.integers(0, 9))
def test_every_column_of_any_world_agrees_with_the_others(world, indices, split, number):
    assume(world.k >= FEWEST.get(SPLITS[split].new, 1))
    scenes = world.scenes(indices, split=split, number=number)
    for name in FIELDS:
        assert len(getattr(scenes, name)) == len(indices), name
    for slot in range(world.k):
        mask = scenes.instance == slot + 1
        assert not mask[scenes.objects[:, slot, 6] == 0].any()
        for seen, (left, top, right, bottom) in zip(mask, scenes.boxes[:, slot].tolist(), strict=True):
            assert seen.sum() == seen[top:bottom, left:right].sum()
    for rows, question, expression in zip(scenes._seen, scenes.question, scenes.expression, strict=True):
        assert execute(question.program, rows).answer == question.answer
        assert execute(expression.program, rows).objects == (expression.slot,)
    if SPLITS[split].shift in ("outline", "noise", "blur"):
        return  # these change pixels where they stand, not what they are of
    scene, y, x = np.nonzero(~scenes.occluded)
    there = x - scenes.disparity[scene, y, x]
    assert np.array_equal(scenes.right[scene, :, y, there], scenes.image[scene, :, y, x])


@settings(max_examples=25, deadline=None)
@given(some.integers(8, 20), some.integers(1, 4), some.sampled_from(get_args(Shift)), INDICES)
def test_any_shift_of_quadrants_keeps_what_they_hold(tile, k, shift, indices):
    plain, shifted = (
        ShapesWorld(2 * tile, k=k, quadrants=True, shift=s).scenes(indices, label="quadrant") for s in ("none", shift)
    )
    assert np.array_equal(shifted.label, plain.label)
    assert np.array_equal(shifted.objects[..., :3], plain.objects[..., :3])
    assert shifted.image.shape == plain.image.shape
