"""Bounds of numbers, stated once in an annotation: `depth: Count`, `betas: tuple[Share, Share]`.

The engine reads them from the source, so that a value out of range is refused before anything is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple


class Bounds(NamedTuple):
    """The numbers from `low` to `high`; with `above`, those greater than it; with `below`, those less than it.

    With `step` only every so many from `low` on.
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    step: int | None = None


Count = Annotated[int, Bounds(low=1)]
"""A count of at least one."""
Natural = Annotated[int, Bounds(low=0)]
"""A count, zero included."""
Fraction = Annotated[float, Bounds(low=0, high=1)]
"""A share or a probability."""
Share = Annotated[float, Bounds(above=0, high=1)]
"""A part of a whole that may be all of it, but not nothing."""
Rate = Annotated[float, Bounds(low=0, below=1)]
"""A share that may not be all: of a running mean, of what is dropped."""
Rates = Annotated[Sequence[float], tuple[Rate, Rate]]
"""Two of these. A part is given the list that the config has."""
Positive = Annotated[float, Bounds(above=0)]
"""A number greater than 0."""
NotNegative = Annotated[float, Bounds(low=0)]
"""A number of at least 0."""
