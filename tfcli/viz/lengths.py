"""Figure of a score against the length of the source, with one line for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tfcli.viz import style

Point = tuple[float, float, float, float]
"""Length, score, and both ends of its 95 % interval."""


def lengths(
    runs: Mapping[str, Sequence[Point]], path: Path | str, *, score: str, title: str, unit: str = "words"
) -> dict[str, list[list[float]]]:
    """Draw scores by the length of the source.

    Args:
        runs: points of each run, by its name.
        path: PNG file to write.
        score: name of the score.
        title: title above the figure.
        unit: unit of lengths.

    Returns:
        the points of each run in order of length.

    Raises:
        ValueError: there are no points.
    """
    drawn = {name: [list(point) for point in sorted(points)] for name, points in runs.items() if points}
    if not drawn:
        raise ValueError("there is nothing to draw: no run has a score by length.")
    with style.figure(path, width=6.4, height=4.0 + 0.22 * len(drawn)) as figure:
        axis = figure.subplots()
        for number, (name, points) in enumerate(drawn.items()):
            length, value, low, high = zip(*points, strict=True)
            colour, marker = style.SERIES[number % 7], style.MARKERS[number % 7]
            axis.fill_between(length, low, high, color=colour, alpha=0.15, linewidth=0)
            axis.plot(length, value, color=colour, marker=marker, markersize=5, label=name)
        axis.set(xlabel=f"{unit} of the source, at most", ylabel=score, title=title)
        axis.set_ylim(bottom=0)
        axis.set_xticks(sorted({point[0] for points in drawn.values() for point in points}))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid(axis="y")
        figure.legend(loc="outside lower left", fontsize=9)
    return drawn
