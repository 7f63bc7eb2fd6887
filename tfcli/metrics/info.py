"""Facts that a metric declares about each of its figures. No torch, since tables of runs read them, too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FigureInfo:
    """Title and direction of a figure.

    Attributes:
        title: name of the figure in tables.
        lower_is_better: whether a smaller value is better.
        decimals: number of digits after the point in the table at the end of a run.
    """

    title: str
    lower_is_better: bool = False
    decimals: int = 3


Declared = dict[str, FigureInfo]
"""Figures by name without the split, in the order of the tables."""

LOSS = FigureInfo("loss", lower_is_better=True)
