"""Questions about synthetic scenes, each with a program whose result is the answer.

The answer is drawn first, as uniformly as the scene allows, and then a question with this answer, so that a model that
reads only the question is hardly better than the most frequent answer of its kind. An absent object that a question
names shares one attribute with a present one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tfcli.data.synthetic.language import an, phrase, plural
from tfcli.data.synthetic.objects import COLOUR, COLOURS, SHAPE, SHAPES, VALID
from tfcli.data.synthetic.programs import Program, Row, execute, meant
from tfcli.data.synthetic.relations import OPPOSITES, RELATIONS, Said, may_say, relation

ANSWERS = (*COLOURS, *SHAPES, "small", "medium", "large", "yes", "no", "0", "1", "2", "3", "4")
T = TypeVar("T")

DRAWS = 12
"""Number of random numbers per question: for the order of the eight kinds, and for four choices."""


@dataclass(frozen=True)
class Scene:
    """The objects of a scene and their occlusions, as far as questions need them.

    Attributes:
        rows: the objects.
        covers: slots (near, far) where the near object visibly covers a part of the far one.
        absent_pairs: (colour, shape) pairs that may be named although they are absent.
        said: which combinations of a pair and a relation are asked about; with `new`, all questions are about them.
    """

    rows: Sequence[Row]
    covers: Sequence[tuple[int, int]]
    absent_pairs: Collection[tuple[int, int]]
    said: Said = "any"

    @property
    def present(self) -> list[Row]:
        """The valid objects."""
        return [row for row in self.rows if row[VALID]]


@dataclass(frozen=True)
class Question:
    """A question and its answer.

    Attributes:
        text, answer: the question and its answer in words.
        kind: one of `KINDS`.
        program: the program that computes the answer.
        support: slots of the objects that the answer depends on.
    """

    text: str
    answer: str
    kind: str
    program: Program
    support: tuple[int, ...]


def ask(scene: Scene, draws: Sequence[float]) -> Question:
    """Return a question of a random kind that is possible for the scene.

    Args:
        scene: the scene; at least one object is valid.
        draws: `DRAWS` random numbers in [0, 1).
    """
    order, choices = draws[: len(KINDS)], draws[len(KINDS) :]
    kinds = ["relation"] if scene.said == "new" else [kind for _, kind in sorted(zip(order, KINDS, strict=True))]
    for kind in kinds:
        found = KINDS[kind](scene, choices)
        if found:
            text, program = found
            outcome = execute(program, scene.rows)
            return Question(text, str(outcome.answer), kind, program, outcome.support)
    raise ValueError("There is nothing to ask of a scene without objects.")


def pick(options: Sequence[T], draw: float) -> T:
    """Return one of the options, chosen by a number in [0, 1)."""
    return options[int(draw * len(options))]


Asked = tuple[str, Program] | None


def _colour(scene: Scene, draws: Sequence[float]) -> Asked:
    rows = _alone(scene.present, SHAPE)
    if not rows:
        return None
    shape = SHAPES[pick(rows, draws[0])[SHAPE]]
    return f"what colour is the {shape}", (f"filter {shape}", "unique", "query colour")


def _shape(scene: Scene, draws: Sequence[float]) -> Asked:
    rows = _alone(scene.present, COLOUR)
    if not rows:
        return None
    colour = COLOURS[pick(rows, draws[0])[COLOUR]]
    return f"what shape is the {colour} object", (f"filter {colour}", "unique", "query shape")


def _size(scene: Scene, draws: Sequence[float]) -> Asked:
    if not scene.present:
        return None
    row = pick(scene.present, draws[0])
    return f"what size is the {phrase(row)}", (*meant(row), "query size")


def _exist(scene: Scene, draws: Sequence[float]) -> Asked:
    there = [(row[COLOUR], row[SHAPE]) for row in scene.present]
    absent = [pair for pair in scene.absent_pairs if pair not in there]
    alike = [pair for pair in absent if any((pair[0] == c) != (pair[1] == s) for c, s in there)]
    options = there if draws[0] < 0.5 else alike
    if not options:
        return None
    colour, shape = pick(options, draws[1])
    name = f"{COLOURS[colour]} {SHAPES[shape]}"
    return f"is there {an(name)}", (f"filter {COLOURS[colour]}", f"filter {SHAPES[shape]}", "exist")


def _count(scene: Scene, draws: Sequence[float]) -> Asked:
    rows, options = scene.present, defaultdict[int, list[Asked]](list)
    options[len(rows)].append(("how many objects are there", ("count",)))
    for column, names, text in ((COLOUR, COLOURS, "{} objects"), (SHAPE, SHAPES, "{}")):
        for number, name in enumerate(names):
            things = text.format(name if column == COLOUR else plural(name))
            count = sum(row[column] == number for row in rows)
            options[count].append((f"how many {things} are there", (f"filter {name}", "count")))
    return pick(options[pick(sorted(options), draws[0])], draws[1])


def _relation(scene: Scene, draws: Sequence[float]) -> Asked:
    pairs = [(a, relation(a, b), b) for a in scene.present for b in scene.present if a is not b]
    wrong = [(a, other, b) for a, how, b in pairs for other in _others(how, scene.said)]
    for asked in (pairs, wrong) if draws[1] < 0.5 else (wrong, pairs):
        options = [stated for stated in asked if may_say(*stated[:2], scene.said)]
        if options:
            return _stands(*pick(options, draws[0]))
    return None


def _others(how: str, said: Said) -> Sequence[str]:
    """Return the false relations that may be asked about: the opposite, or with `new` all others."""
    return [other for other in RELATIONS if other != how] if said == "new" else [OPPOSITES[how]]


def _nearer(scene: Scene, draws: Sequence[float]) -> Asked:
    if not scene.covers:
        return None
    near, far = (scene.rows[slot] for slot in pick(scene.covers, draws[0]))
    a, b = (near, far) if draws[1] < 0.5 else (far, near)
    return _stands(a, "in front of" if draws[2] < 0.5 else "behind", b)


def _commonest(scene: Scene, draws: Sequence[float]) -> Asked:
    counts = Counter(row[COLOUR] for row in scene.present).most_common(2)
    if not counts or counts[0][1] < 2 or (len(counts) > 1 and counts[1][1] == counts[0][1]):
        return None
    return "what colour is the most common", ("commonest",)


def _stands(a: Row, how: str, b: Row) -> Asked:
    program = (*meant(b), f"relate {how}", *meant(a)[:2], "exist")
    return f"is the {phrase(a)} {how} the {phrase(b)}", program


def _alone(rows: Sequence[Row], column: int) -> list[Row]:
    """Return the objects whose value of an attribute is unique in the scene."""
    counts = Counter(row[column] for row in rows)
    return [row for row in rows if counts[row[column]] == 1]


KINDS: dict[str, Callable[[Scene, Sequence[float]], Asked]] = {
    "colour": _colour,
    "shape": _shape,
    "size": _size,
    "exist": _exist,
    "count": _count,
    "relation": _relation,
    "nearer": _nearer,
    "commonest": _commonest,
}
