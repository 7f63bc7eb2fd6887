"""Kinds of values: whole numbers in bounds, words of a list, lists of these, or nothing. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tfcli.bounds import Bounds
from tfcli.errors import nearest

NAMES: dict[type, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
}


@dataclass(frozen=True)
class Alternative:
    """One of the alternatives of a kind: a plain type in bounds, or a list of `items`.

    `fixed` lists have exactly so many items as `items`; else each item is of the one kind.
    """

    type: type
    bounds: tuple[Bounds, ...] = ()
    items: tuple[Kind, ...] = ()
    fixed: bool = False

    def takes(self, value: Any) -> bool:
        """Return whether `value` is of this alternative."""
        if self.type is list:
            if not isinstance(value, list | tuple) or (self.fixed and len(value) != len(self.items)):
                return False
            kinds = self.items if self.fixed else self.items * len(value)
            return all(kind.takes(item) for kind, item in zip(kinds, value, strict=True))
        if self.type is str:
            return isinstance(value, str)
        if self.type is bool or isinstance(value, bool):
            return isinstance(value, self.type) and isinstance(value, bool)
        whole = isinstance(value, int)
        fits = whole if self.type is int else whole or (isinstance(value, float) and math.isfinite(value))
        return fits and all(_inside(value, bound) for bound in self.bounds)

    def words(self) -> tuple[str, str]:
        """Return this alternative in words, in the singular and in the plural."""
        if self.type is list:
            many = [kind.words(many=True) for kind in self.items]
            if not self.fixed:
                return f"a list of {many[0]}", f"lists of {many[0]}"
            each = many[0] if len(set(many)) == 1 else " and ".join(kind.words() for kind in self.items)
            return f"a list of {len(many)} {each}", f"lists of {len(many)} {each}"
        one, many_of = NAMES[self.type]
        bounds = " and ".join(filter(None, map(_bound_words, self.bounds)))
        if self.type is float and not bounds:
            return "a finite number", "numbers"
        return (f"{one} {bounds}", f"{many_of} {bounds}") if bounds else (one, many_of)


@dataclass(frozen=True)
class Kind:
    """The values that an argument takes: one of some `choices` or alternatives; `any` where nothing is declared."""

    choices: tuple[Any, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    null: bool = False
    any: bool = False

    @classmethod
    def of(cls, plain: type) -> Kind:
        """Return the kind of values of a plain type."""
        return cls(alternatives=(Alternative(plain),))

    @classmethod
    def among(cls, *choices: Any) -> Kind:
        """Return the kind that is one of some words or numbers."""
        return cls(choices=choices)

    @classmethod
    def list_of(cls, *items: Kind, fixed: bool) -> Kind:
        """Return the kind of lists of such items."""
        return cls(alternatives=(Alternative(list, items=items, fixed=fixed),))

    def __or__(self, other: Kind) -> Kind:
        return Kind(
            (*self.choices, *(c for c in other.choices if c not in self.choices)),
            (*self.alternatives, *(o for o in other.alternatives if o not in self.alternatives)),
            self.null or other.null,
            self.any or other.any,
        )

    def within(self, bounds: Bounds) -> Kind:
        """Return this kind with bounds on its numbers."""
        return replace(
            self,
            alternatives=tuple(
                replace(o, bounds=(*o.bounds, bounds)) if o.type in (int, float) else o for o in self.alternatives
            ),
        )

    @property
    def restricts(self) -> bool:
        """Return whether it refuses anything; plain text refuses nothing, since every word of the shell is text."""
        return bool(self.choices) or any(one.type is not str for one in self.alternatives)

    def takes(self, value: Any) -> bool:
        """Return whether `value` is of this kind. A number or a truth value stands for its own spelling."""
        if self.any and not (self.choices and isinstance(value, str)):
            return True  # a word is one of the choices, whatever else may stand there
        if value is None:
            return self.null
        if isinstance(value, str | int | float) and not isinstance(value, bool) and self.is_choice(value):
            return True
        return any(one.takes(value) for one in self.alternatives)

    def is_choice(self, value: Any) -> bool:
        """Return whether `value` is one of the choices."""
        return str(value) in map(str, self.choices)

    def hint(self, value: Any) -> str:
        """Return a hint at the choice nearest to `value`, or to the item of a list that is not taken."""
        items = [one.items[0] for one in self.alternatives if one.type is list and not one.fixed]
        if isinstance(value, list) and items:
            return items[0].hint(next((item for item in value if not items[0].takes(item)), ""))
        return nearest(str(value), list(map(str, self.choices))) if self.choices else ""

    def words(self, *, many: bool = False) -> str:
        """Return this kind in words: `one of a, b, c`, `a whole number of at least 1, or null`."""
        parts = [one.words()[many] for one in self.alternatives]
        if self.choices:
            listed = ", ".join(map(str, self.choices))
            parts.insert(0, listed if len(self.choices) == 1 or parts else f"one of {listed}")
        if self.null:
            parts.append("null")
        return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}" if parts else "any value"

    def values(self) -> Iterator[str]:
        """Yield the words that completion offers for such a value."""
        yield from map(str, self.choices)
        if any(one.type is bool for one in self.alternatives):
            yield from ("true", "false")
        if self.null:
            yield "null"


ANY, NULL = Kind(any=True), Kind(null=True)


def _inside(value: float, bound: Bounds) -> bool:
    return not (
        (bound.low is not None and value < bound.low)
        or (bound.high is not None and value > bound.high)
        or (bound.above is not None and value <= bound.above)
        or (bound.below is not None and value >= bound.below)
        or (bound.step is not None and (value - (bound.low or 0)) % bound.step)
    )


def _bound_words(bound: Bounds) -> str:
    low, high, above, below, step = (None if b is None else f"{b:g}" for b in bound)
    if step is not None:
        first = [f"{(bound.low or 0) + k * int(step):g}" for k in range(4)]
        return f"of {', '.join(first)} …"
    if low is not None and high is not None:
        return f"between {low} and {high}"
    if (above or low) is not None and (high or below) is not None:
        return f"between {above or low} and {high or below}, but not {above or below} itself"
    parts = [low and f"of at least {low}", high and f"of at most {high}", above and f"greater than {above}"]
    return " and ".join(filter(None, [*parts, below and f"less than {below}"]))
