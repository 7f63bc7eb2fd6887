"""Where one object of a scene stands to another, and which pairs of colour and shape may be denied to stand so.

Of each pair one relation is held out, that with (colour // 2 + shape + relation) mod 4 = 3: a `red circle` stands left
of, right of and above other objects, but no sentence of training says what it stands below.
Only worlds with `hold_relations` are denied these sentences; in `comp_rel` there are no others.
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
"""Which combinations of a pair and a relation sentences state: any, only those of training, only those held out."""


def relation(a: Sequence[int], b: Sequence[int]) -> str:
    """Return where object `a` stands as seen from `b`, along the larger gap of their centres."""
    x, y = a[X] - b[X], a[Y] - b[Y]
    if abs(x) >= abs(y):
        return RELATIONS[0] if x < 0 else RELATIONS[1]
    return RELATIONS[2] if y < 0 else RELATIONS[3]


def may_say(a: Sequence[int], how: str, said: Said) -> bool:
    """Return whether a sentence may state that object `a` stands so to another."""
    pair = a[COLOUR] * len(SHAPES) + a[SHAPE]
    return said == "any" or bool(HELD_RELATIONS[pair, RELATIONS.index(how)]) == (said == "new")


def stand_newly(objects: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return scenes (B, k, 7) whose first object has a pair for which its relation to the second is held out.

    Args:
        objects: (B, k, 7) with k of at least 2.
        words: (B, `ALL_WORDS` or more) hashed words of each scene, which rank the pairs.
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
