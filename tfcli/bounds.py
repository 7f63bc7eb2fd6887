"""Bounds of numbers as annotations: `depth: Count`, `betas: tuple[Share, Share]`.

The engine reads them from the source code, so that it refuses a value out of range before it imports anything heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple


class Bounds(NamedTuple):
    """A range of numbers: from `low` to `high`, or greater than `above`, or less than `below`; in steps of `step`."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    step: int | None = None


Count = Annotated[int, Bounds(low=1)]
"""A count of at least one."""
Natural = Annotated[int, Bounds(low=0)]
"""A whole number of at least zero."""
Fraction = Annotated[float, Bounds(low=0, high=1)]
"""A share or a probability in [0, 1]."""
Share = Annotated[float, Bounds(above=0, high=1)]
"""A share in (0, 1]."""
Rate = Annotated[float, Bounds(low=0, below=1)]
"""A share in [0, 1), for instance a dropout probability or the factor of a running mean."""
Rates = Annotated[Sequence[float], tuple[Rate, Rate]]
"""Two rates; a constructor receives the list of the config."""
Positive = Annotated[float, Bounds(above=0)]
"""A number greater than 0."""
NotNegative = Annotated[float, Bounds(low=0)]
"""A number of at least 0."""
