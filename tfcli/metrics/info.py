"""Facts that a metric declares of each of its figures. Imports no torch: tables of old runs read them too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FigureInfo:
    """Title and direction of a figure.

    Attributes:
        title: name of the figure in tables.
        lower_is_better: whether a smaller value is the better one.
        decimals: digits after the point in the table that a run ends with.
    """

    title: str
    lower_is_better: bool = False
    decimals: int = 3


Declared = dict[str, FigureInfo]
"""Figures by name without their split, in the order in which tables show them."""

LOSS = FigureInfo("loss", lower_is_better=True)
