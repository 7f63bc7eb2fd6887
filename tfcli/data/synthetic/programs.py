"""Programs over the objects of a scene, which define the meaning of a question or an expression step by step.


A program is a chain of steps, as in CLEVR (Johnson et al. 2017, section 3). It begins with all objects:

    filter VALUE      keep the objects of that colour, shape or size
    unique            there must be one object, which is meant
    relate RELATION   go on with the objects that stand so to the one that is meant
    query ATTRIBUTE   answer with the colour, shape or size of the one that is meant
    exist             answer `yes` if an object is left, else `no`
    count             answer with the number of objects that are left
    commonest         answer with the colour that most of the objects have
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tfcli.data.synthetic.objects import COLOUR, COLOURS, DEPTH, SHAPE, SHAPES, SIZE, SIZES, VALID
from tfcli.data.synthetic.relations import RELATIONS, relation

Program = tuple[str, ...]
Row = Sequence[int]
"""An object, by `OBJECT_COLUMNS`."""

ATTRIBUTES = {"colour": (COLOUR, COLOURS), "shape": (SHAPE, SHAPES), "size": (SIZE, SIZES)}
_COLUMN_OF = {name: (column, number) for column, names in ATTRIBUTES.values() for number, name in enumerate(names)}


@dataclass(frozen=True)
class Outcome:
    """Result of a program.

    Attributes:
        answer: in words; None where the program ends with objects.
        objects: slots of the objects that are left.
        support: slots of all objects that the answer depends on.
    """

    answer: str | None
    objects: tuple[int, ...]
    support: tuple[int, ...]


def execute(program: Program, objects: Sequence[Row]) -> Outcome:
    """Run a program on the valid objects of one scene.

    Raises:
        ValueError: an unknown step; `unique` where there is not exactly one object; or no single commonest colour.
    """
    everything = [slot for slot, row in enumerate(objects) if row[VALID]]
    here, support, answer = everything, set[int](), None
    for step in program:
        name, _, value = step.partition(" ")
        if name == "filter":
            column, number = _COLUMN_OF[value]
            here = [slot for slot in here if objects[slot][column] == number]
        elif name == "unique":
            _one(here, program)
            support.update(here)
        elif name == "relate":
            anchor = _one(here, program)
            here = [s for s in everything if s != anchor and stands(objects[s], value, objects[anchor])]
        elif name == "query":
            column, names = ATTRIBUTES[value]
            answer = names[objects[_one(here, program)][column]]
        elif name in ("exist", "count", "commonest"):
            support.update(here)
            answer = _SUMMARIES[name]([objects[slot] for slot in here])
        else:
            raise ValueError(f"A program has no step `{step}`.")
    return Outcome(answer, tuple(here), tuple(sorted(support)))


def stands(a: Row, how: str, b: Row) -> bool:
    """Return whether object `a` is in relation `how` to `b`: left of, right of, above, below, in front of or behind."""
    if how in RELATIONS:
        return relation(a, b) == how
    return a[DEPTH] > b[DEPTH] if how == "in front of" else a[DEPTH] < b[DEPTH]


def meant(row: Row) -> Program:
    """Return the steps that identify one object by its colour and shape."""
    return (f"filter {COLOURS[row[COLOUR]]}", f"filter {SHAPES[row[SHAPE]]}", "unique")


def _one(here: Sequence[int], program: Program) -> int:
    if len(here) != 1:
        raise ValueError(f"{len(here)} objects of the scene are meant where one should be: {'; '.join(program)}.")
    return here[0]


def _commonest(rows: Sequence[Row]) -> str:
    first, *others = Counter(row[COLOUR] for row in rows).most_common(2)
    if others and others[0][1] == first[1]:
        raise ValueError("The scene has no single commonest colour.")
    return COLOURS[first[0]]


_SUMMARIES = {
    "exist": lambda rows: "yes" if rows else "no",
    "count": lambda rows: str(len(rows)),
    "commonest": _commonest,
}
