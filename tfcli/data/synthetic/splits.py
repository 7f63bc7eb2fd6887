"""Splits of the synthetic scenes: scenes as in training, and scenes that never occur in training.


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
    """Definition of a split.

    Attributes:
        stream: number of its random stream.
        new: held-out property of its scenes: a pair of colour and shape, a relation of a pair, a number of objects, or
            `length` for longer captions.
        shift: change of its images.
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
"""Splits that are evaluated only on request."""
