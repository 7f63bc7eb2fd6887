"""True or false statements about two pictures, similar to NLVR2 (Suhr et al. 2019).

The truth value is drawn first, with equal probabilities, then the kind, and then a statement of both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tfcli.data.synthetic.language import an, plural
from tfcli.data.synthetic.objects import COLOUR, COLOURS, SHAPE, SHAPES, VALID
from tfcli.data.synthetic.programs import Program, Row
from tfcli.data.synthetic.questions import pick

DRAWS = 6
"""Number of random numbers per statement: for its truth, the order of the four kinds, and the choice."""
MOST = 4
"""Largest number that a statement names."""


@dataclass(frozen=True)
class Statement:
    """A statement about a left and a right picture.

    Attributes:
        text: the statement in words.
        truth: whether it is true.
        kind: one of `KINDS`.
        program: the program that counts its objects in one picture.
        number: the number in the statement, or 0.
    """

    text: str
    truth: bool
    kind: str
    program: Program
    number: int = 0


def state(
    left: Sequence[Row], right: Sequence[Row], pairs: Sequence[tuple[int, int]], draws: Sequence[float]
) -> Statement:
    """Return a random statement about two scenes.

    Args:
        left, right: the objects of the two scenes.
        pairs: pairs (colour, shape) that may be named.
        draws: `DRAWS` random numbers in [0, 1).
    """
    truth, order, choice = draws[0] < 0.5, draws[1 : 1 + len(KINDS)], draws[-1]
    a, b = _counts(left), _counts(right)
    for _, kind in sorted(zip(order, KINDS, strict=True)):
        holds = KINDS[kind]
        options = [
            (text, things, number)
            for text, things, number in _statements(kind, tuple(pairs))
            if holds(a[things], b[things], number) == truth
        ]
        if options:
            text, things, number = pick(options, choice)
            return Statement(text, truth, kind, (*things, "count"), number)
    raise ValueError("No statement about these two scenes is as true or false as it should be.")


def _counts(rows: Sequence[Row]) -> Counter[Program]:
    """Count the objects of a scene for each program of `_things`."""
    found = Counter[Program]()
    for row in rows:
        if row[VALID]:
            colour, shape = f"filter {COLOURS[row[COLOUR]]}", f"filter {SHAPES[row[SHAPE]]}"
            found.update([(), (colour,), (shape,), (colour, shape)])
    return found


@lru_cache
def _statements(kind: str, pairs: tuple[tuple[int, int], ...]) -> list[tuple[str, Program, int]]:
    """Return every statement of a kind: its text, the program that finds its objects, and its number."""
    found = []
    for one, several, things in _things(pairs):
        if kind == "both" and things:
            found.append((f"both pictures show {an(one)}", things, 0))
        elif kind == "one" and things:
            found.append((f"only one picture shows {an(one)}", things, 0))
        elif kind == "more":
            found.append((f"the left picture shows more {several} than the right", things, 0))
        elif kind == "all":
            for number in range(1, MOST + 1):
                words = f"are {number} {several}" if number > 1 else f"is 1 {one}"
                found.append((f"there {words} in all", things, number))
    return found


def _things(pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[str, str, Program]]:
    """Yield everything that can be counted: its singular, its plural, and the program that finds it."""
    yield "object", plural("object"), ()
    for colour in COLOURS:
        yield f"{colour} object", f"{colour} {plural('object')}", (f"filter {colour}",)
    for shape in SHAPES:
        yield shape, plural(shape), (f"filter {shape}",)
    for c, s in pairs:
        yield (
            f"{COLOURS[c]} {SHAPES[s]}",
            f"{COLOURS[c]} {plural(SHAPES[s])}",
            (f"filter {COLOURS[c]}", f"filter {SHAPES[s]}"),
        )


KINDS: dict[str, Callable[[int, int, int], bool]] = {
    "both": lambda a, b, number: a > 0 and b > 0,
    "one": lambda a, b, number: (a > 0) != (b > 0),
    "more": lambda a, b, number: a > b,
    "all": lambda a, b, number: a + b == number,
}
