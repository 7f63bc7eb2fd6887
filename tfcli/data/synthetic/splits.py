"""Splits of the world of shapes: scenes like those of training, and scenes that training never shows.

train val test   scenes of the same kind, of streams of their own
comp             the first object has one of the 12 held-out pairs of colour and shape, which no other split shows
comp_rel         captions and questions state only relations that are held out for the pair that they speak of
comp_count       as many objects as there may be
len              captions that chain all objects
robust_SHIFT     scenes of `test` drawn otherwise; see `shifts`

Training never shows pairs of `comp`. It may show what `comp_rel` and `comp_count` test, unless that is withheld: by
`World.hold_relations`, and by fewer objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from tfcli.data.synthetic.shifts import Shift


@dataclass(frozen=True)
class Split:
    """What a split shows.

    Attributes:
        stream: of random numbers that its scenes are drawn from.
        new: what its scenes have that is held out: a pair of colour and shape, a relation of a pair, a number of
            objects; `length`: captions longer than others.
        shift: how its pictures differ.
    """

    stream: int
    new: Literal["", "pair", "relation", "count", "length"] = ""
    shift: Shift = "none"


SPLITS = {
    "train": Split(0),
    "val": Split(1),
    "test": Split(2),
    "comp": Split(3, "pair"),
    "comp_rel": Split(4, "relation"),
    "comp_count": Split(5, "count"),
    "len": Split(6, "length"),
    **{f"robust_{shift}": Split(2, shift=shift) for shift in get_args(Shift) if shift != "none"},
}
FURTHER = tuple(SPLITS)[3:]
"""Splits that are evaluated when they are asked for."""
