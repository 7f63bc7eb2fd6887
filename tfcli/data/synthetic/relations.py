"""Spatial relations between objects, and the held-out combinations of a pair (colour, shape) with a relation.

One relation is held out for each pair, the one with (colour // 2 + shape + relation) mod 4 = 3: for example, training
sentences say that a `red circle` is left of, right of and above other objects, but never that it is below one. In
worlds with `hold_relations`, sentences omit these combinations; in `comp_rel`, sentences state only these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from tfcli.data.synthetic.objects import COLOUR, HELD_OUT, PAIR_NAMES, PAIR_WORDS, SHAPE, SHAPES, X, Y, pair_numbers

RELATIONS = ("left of", "right of", "above", "below")
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_COLOUR, _SHAPE = np.divmod(np.arange(len(PAIR_NAMES)), len(SHAPES))
HELD_RELATIONS = ((_COLOUR // 2 + _SHAPE)[:, None] + np.arange(len(RELATIONS))) % 4 == 3
"""(48, 4) bool, by `PAIR_NAMES` and `RELATIONS`: the combinations that are held out."""

Said = Literal["any", "known", "new"]
"""Which combinations of a pair and a relation sentences state: any, only those of training, or only held-out ones."""


def relation(a: Sequence[int], b: Sequence[int]) -> str:
    """Return the relation of object `a` to `b`, along the axis on which their centres are further apart."""
    x, y = a[X] - b[X], a[Y] - b[Y]
    if abs(x) >= abs(y):
        return RELATIONS[0] if x < 0 else RELATIONS[1]
    return RELATIONS[2] if y < 0 else RELATIONS[3]


def may_say(a: Sequence[int], how: str, said: Said) -> bool:
    """Return whether a sentence may state that object `a` is in relation `how` to another."""
    pair = a[COLOUR] * len(SHAPES) + a[SHAPE]
    return said == "any" or bool(HELD_RELATIONS[pair, RELATIONS.index(how)]) == (said == "new")


def with_held_out_relation(objects: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return scenes (B, k, 7) in which the pair of the first object is held out for its relation to the second.

    Args:
        objects: (B, k, 7) with k of at least 2.
        words: (B, `ALL_WORDS` or more) random words of each scene, which rank the pairs.
    """
    x, y = (objects[:, 0, axis] - objects[:, 1, axis] for axis in (X, Y))
    how = np.where(abs(x) >= abs(y), np.where(x < 0, 0, 1), np.where(y < 0, 2, 3))
    allowed = HELD_RELATIONS.T[how] & ~HELD_OUT
    np.put_along_axis(allowed, pair_numbers(objects)[:, 1:], values=False, axis=1)  # no two share colour and shape
    ranks = words[:, PAIR_WORDS : PAIR_WORDS + len(PAIR_NAMES)]
    pair = np.where(allowed, ranks, np.iinfo(np.uint64).max).argmin(axis=1)
    changed = objects.copy()
    changed[:, 0, COLOUR], changed[:, 0, SHAPE] = pair // len(SHAPES), pair % len(SHAPES)
    return changed
