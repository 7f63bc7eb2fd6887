"""Referring expressions: phrases that identify exactly one object of a scene, with the program that finds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tfcli.data.synthetic.language import phrase
from tfcli.data.synthetic.objects import COLOUR, COLOURS, SHAPE, SHAPES, SIZE, SIZES, VALID
from tfcli.data.synthetic.programs import Program, Row, execute, meant
from tfcli.data.synthetic.questions import pick
from tfcli.data.synthetic.relations import relation

DRAWS = 2
"""Number of random numbers per expression: for the object and for the phrase."""


@dataclass(frozen=True)
class Expression:
    """A referring expression, its program, and the slot of the object that it identifies."""

    text: str
    program: Program
    slot: int


def refer(rows: Sequence[Row], draws: Sequence[float]) -> Expression:
    """Return a random expression that identifies a random object of a scene.

    Args:
        rows: the objects of the scene; at least one is valid.
        draws: `DRAWS` random numbers in [0, 1).
    """
    slot = pick([i for i, row in enumerate(rows) if row[VALID]], draws[0])
    options = [(text, program) for text, program in _descriptions(rows, slot) if _finds(program, rows) == (slot,)]
    text, program = pick(options, draws[1])
    return Expression(text, (*program, "unique"), slot)


def _finds(program: Program, rows: Sequence[Row]) -> tuple[int, ...]:
    return execute(program, rows).objects


def _descriptions(rows: Sequence[Row], slot: int) -> Iterator[tuple[str, Program]]:
    """Yield all expressions that are true of an object, including those that are true of other objects as well."""
    row = rows[slot]
    colour, shape, size = COLOURS[row[COLOUR]], SHAPES[row[SHAPE]], SIZES[row[SIZE]]
    by_colour, by_shape, by_size = f"filter {colour}", f"filter {shape}", f"filter {size}"
    yield f"the {shape}", (by_shape,)
    yield f"the {colour} object", (by_colour,)
    yield f"the {size} {shape}", (by_size, by_shape)
    yield f"the {size} {colour} object", (by_size, by_colour)
    yield f"the {colour} {shape}", (by_colour, by_shape)
    for other in rows:
        if other is not row and other[VALID]:
            how = relation(row, other)
            place = f"{how} the {phrase(other)}"
            yield f"the {shape} {place}", (*meant(other), f"relate {how}", by_shape)
            yield f"the {colour} object {place}", (*meant(other), f"relate {how}", by_colour)
