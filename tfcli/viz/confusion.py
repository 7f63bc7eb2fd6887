"""Figure of a confusion matrix, readable for two to about two hundred classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcli.viz import style

NAMED = 250
"""Largest number of classes whose names are shown; with more classes the figure keeps its size."""


def confusion(
    matrix: Sequence[Sequence[float]],
    path: Path | str,
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
    pairs: int = 12,
) -> dict[str, Any]:
    """Draw a confusion matrix, whose rows are shares of the true class, and a list of the most confused pairs.

    Args:
        matrix: `(K, K)` counts; rows are true classes, columns predicted ones.
        path: PNG file to write.
        names: names of the K classes; None: their numbers.
        title: title above the figure; None: the accuracy.
        pairs: number of the most confused pairs to list.

    Returns:
        the numbers of the figure: `accuracy`, `per_class` (recall of each class; None without samples), `shares` (the
        rows; None without samples) and `pairs`, the most confused first: true, predicted, count, share.

    Raises:
        ValueError: the matrix is not square, or the number of names differs.
    """
    counts = [[float(value) for value in row] for row in matrix]
    size = len(counts)
    if not size or any(len(row) != size for row in counts):
        lengths = sorted({len(row) for row in counts})
        raise ValueError(f"`matrix` must be square, but has {size} rows of {lengths} values.")
    names = [str(name) for name in names] if names is not None else [str(i) for i in range(size)]
    if len(names) != size:
        raise ValueError(f"`names` must have the names of the {size} classes, but has {len(names)}.")
    numbers = _numbers(counts, names, pairs)
    cell = 0.62 if size <= 12 else 0.27 if size <= 50 else 0.135 if size <= NAMED else 24 / size  # inches
    cell = max(cell, 1.9 / size)
    listed = [f"{_short(pair['true'])} → {_short(pair['predicted'])}" for pair in numbers["pairs"]]
    side = max([2.2, *(0.068 * len(text) for text in listed)]) + 0.5 if listed else 0.0
    if title is None and numbers["accuracy"] is not None:
        title = f"accuracy {numbers['accuracy']:.1%}"
    with style.figure(path, width=size * cell, height=size * cell, fitted=False) as figure:
        axis = figure.add_axes((0, 0, 1, 1))
        _matrix(axis, numbers["shares"], names, cell)
        axis.set_title(title or "")
        _pairs(axis, numbers["pairs"], listed, left=1.3, width=side, matrix=size * cell)
    return numbers


def _numbers(counts: list[list[float]], names: list[str], pairs: int) -> dict[str, Any]:
    totals = [sum(row) for row in counts]
    shares = [[v / total for v in row] if total else None for row, total in zip(counts, totals, strict=True)]
    wrong: list[dict[str, Any]] = [
        {"true": names[i], "predicted": names[j], "count": int(value), "share": value / totals[i]}
        for i, row in enumerate(counts)
        for j, value in enumerate(row)
        if i != j and value
    ]
    wrong.sort(key=lambda pair: (-pair["count"], -pair["share"]))
    return {
        "accuracy": sum(counts[i][i] for i in range(len(counts))) / sum(totals) if sum(totals) else None,
        "per_class": [None if row is None else row[i] for i, row in enumerate(shares)],
        "shares": shares,
        "pairs": wrong[:pairs],
    }


def _short(name: str, length: int = 28) -> str:
    text = "".join(c if c.isprintable() else "?" for c in name)
    return text if len(text) <= length else text[: length - 1] + "…"


def _matrix(axis, shares: list, names: list[str], cell: float) -> None:
    from matplotlib.colors import PowerNorm
    from matplotlib.patches import Rectangle

    size = len(names)
    filled = [row if row is not None else [0.0] * size for row in shares]
    # The colour is the square root of a share: the few confusions of a good model would be invisible otherwise.
    image = axis.imshow(filled, cmap=style.shades(), norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    points = 10.0 if cell > 0.5 else min(8.0, cell * 72 * 0.62)
    _ticks(axis, [_short(name) for name in names], points)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.grid(which="minor", color=style.RULE, linewidth=1.2 if size <= 12 else 0.5)
    axis.add_patch(Rectangle((-0.5, -0.5), size, size, fill=False, edgecolor=style.FAINT, linewidth=0.8, clip_on=False))
    hatched: dict[str, Any] = {"facecolor": "#f0f0f0", "edgecolor": "#d0d0d0", "hatch": "////", "linewidth": 0}
    text = {"ha": "center", "va": "center", "fontsize": points if size <= 12 else 0.85 * points}
    written = 0.005 if size <= 12 else 0.1 if size <= 50 else 2.0
    for i, row in enumerate(shares):
        if row is None:
            axis.add_patch(Rectangle((-0.5, i - 0.5), size, 1, **hatched))
            continue
        for j, share in enumerate(row):
            if share >= written:
                axis.text(j, i, f"{100 * share:.0f}", color="white" if share > 0.3 else style.INK, **text)
    _scale(axis, image, size * cell)


def _ticks(axis, labels: list[str], points: float) -> None:
    size = len(labels)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    if size > NAMED:
        axis.set_xticks([])
        axis.set_yticks([])
        return
    axis.set_yticks(range(size), labels, fontsize=points)
    if size > 50:
        axis.set_xticks(range(size), labels, fontsize=points, rotation=90, ha="center")
    elif size <= 12 and max(map(len, labels)) <= 5:
        axis.set_xticks(range(size), labels, fontsize=points)
    else:
        axis.set_xticks(range(size), labels, fontsize=points, rotation=50, ha="right", rotation_mode="anchor")
    axis.set_xticks([i - 0.5 for i in range(size + 1)], minor=True)
    axis.set_yticks([i - 0.5 for i in range(size + 1)], minor=True)
    axis.tick_params(which="both", length=0)


def _scale(axis, image, matrix: float) -> None:
    """Draw the colour scale at the top right of a matrix with a side of `matrix` inches."""
    from matplotlib.ticker import PercentFormatter

    height = min(1.0, 3.2 / matrix)
    place = axis.inset_axes((1 + 0.15 / matrix, 1 - height, 0.13 / matrix, height))
    bar = axis.figure.colorbar(image, cax=place)
    bar.set_ticks([0, 0.01, 0.05, 0.2, 0.5, 1.0])
    bar.minorticks_off()
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)
    bar.set_label("share of the true class", fontsize=8.5)


def _pairs(axis, pairs: list[dict], texts: list[str], *, left: float, width: float, matrix: float) -> None:
    """Draw a list with bars to the right of the matrix; lengths are in inches, `matrix` is the side of the matrix."""
    if not pairs:
        return
    line = 0.36
    most = max(pair["count"] for pair in pairs)
    shown = max(2, int((matrix - 0.3) / line))
    box = axis.inset_axes((1 + left / matrix, 0, width / matrix, 1))
    box.set_axis_off()
    box.set_xlim(0, width)
    box.set_ylim(matrix, 0)
    box.text(0, 0, "most confused", fontsize=10, fontweight="bold", va="top")
    for i, (pair, text) in enumerate(list(zip(pairs, texts, strict=True))[:shown]):
        top = 0.3 + i * line
        long = 1.6 * pair["count"] / most
        box.text(0, top, text, fontsize=8, va="top")
        box.barh(top + 0.22, long, height=0.06, color=style.SPLITS["val"])
        note = f"{pair['count']} ({pair['share']:.0%})"
        box.text(long + 0.08, top + 0.22, note, fontsize=7.5, va="center", color="#606060")
