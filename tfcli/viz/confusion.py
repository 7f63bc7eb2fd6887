"""The confusion matrix: what was taken for what, readable from two classes to some two hundred."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcli.viz import style


def confusion(
    matrix: Sequence[Sequence[float]],
    path: Path | str,
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
    pairs: int = 12,
) -> dict[str, Any]:
    """Draw a confusion matrix with each row as shares of its true class, and its most confused pairs beside it.

    Args:
        matrix: `(K, K)` counts; rows are true classes, columns predicted ones.
        path: the PNG to write.
        names: of the K classes; numbers when left out.
        title: a line above.
        pairs: how many of the most confused pairs to list.

    Returns:
        what was drawn: `accuracy`, `per_class` (share of each class found; None without examples), `shares` (the
        rows, None without examples) and `pairs`, the most confused first: true, predicted, count, share.

    Raises:
        ValueError: the matrix is not square, or there are not as many names.
    """
    counts = [[float(value) for value in row] for row in matrix]
    size = len(counts)
    if not size or any(len(row) != size for row in counts):
        raise ValueError(
            f"`matrix` must be square, but has {size} rows of {sorted({len(row) for row in counts})} values."
        )
    names = [str(name) for name in names] if names is not None else [str(i) for i in range(size)]
    if len(names) != size:
        raise ValueError(f"`names` must name the {size} classes, but has {len(names)}.")
    numbers = _numbers(counts, names, pairs)
    cell = 0.62 if size <= 12 else 0.27 if size <= 50 else max(0.135, 14 / size)
    label = min(2.6, 0.075 * max(len(_short(name)) for name in names) * min(1.0, cell / 0.2) + 0.3)
    side = 3.6 if numbers["pairs"] else 0.4
    width, height = size * cell + label + side + 0.8, max(size * cell + label + 0.9, 3.2)
    with style.figure(path, width=width, height=height) as figure:
        axis, listing = figure.subplots(1, 2, width_ratios=[width - side, side])
        _matrix(figure, axis, numbers["shares"], names, cell)
        axis.set_title(
            title or f"accuracy {numbers['accuracy']:.1%}" if numbers["accuracy"] is not None else title or ""
        )
        _pairs(listing, numbers["pairs"], height)
    return numbers


def _numbers(counts: list[list[float]], names: list[str], pairs: int) -> dict[str, Any]:
    totals = [sum(row) for row in counts]
    shares = [[v / total for v in row] if total else None for row, total in zip(counts, totals, strict=True)]
    wrong = [
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


def _matrix(figure, axis, shares: list, names: list[str], cell: float) -> None:
    from matplotlib.colors import PowerNorm
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import PercentFormatter

    size = len(names)
    filled = [row if row is not None else [0.0] * size for row in shares]
    # A square root of the share: the few confusions of a good model would vanish beside its diagonal.
    image = axis.imshow(filled, cmap=style.shades(), norm=PowerNorm(0.5, 0, 1), aspect="equal", interpolation="nearest")
    points = 10.0 if cell > 0.5 else min(8.0, cell * 72 * 0.62)
    ticks, labels = list(range(size)), [_short(name) for name in names]
    axis.set_yticks(ticks, labels, fontsize=points)
    upright = size <= 12 and max(map(len, labels)) <= 4
    turned = {} if upright else {"rotation": 90 if size > 50 else 50, "ha": "center" if size > 50 else "right"}
    axis.set_xticks(ticks, labels, fontsize=points, rotation_mode="default" if size > 50 else "anchor", **turned)
    axis.tick_params(length=0, pad=3)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_xticks([i - 0.5 for i in range(size + 1)], minor=True)
    axis.set_yticks([i - 0.5 for i in range(size + 1)], minor=True)
    axis.grid(which="minor", color=style.RULE, linewidth=1.2 if size <= 12 else 0.5)
    axis.tick_params(which="minor", length=0)
    axis.add_patch(Rectangle((-0.5, -0.5), size, size, fill=False, edgecolor=style.FAINT, linewidth=0.8, clip_on=False))
    for i, row in enumerate(shares):
        if row is None:
            axis.add_patch(
                Rectangle((-0.5, i - 0.5), size, 1, facecolor="#f0f0f0", hatch="////", edgecolor="#d0d0d0", lw=0)
            )
            continue
        for j, share in enumerate(row):
            if size <= 50 and ((size <= 12 and share >= 0.005) or share >= 0.1):
                text = f"{100 * share:.0f}"
                colour = "white" if share > 0.3 else style.INK
                axis.text(
                    j, i, text, ha="center", va="center", fontsize=points * (1.0 if size <= 12 else 0.85), color=colour
                )
    bar = figure.colorbar(image, ax=axis, shrink=min(1.0, 4 / (size * cell)), aspect=22, pad=0.015)
    bar.set_ticks([0, 0.01, 0.05, 0.2, 0.5, 1.0])
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    bar.ax.tick_params(labelsize=8, length=2)
    bar.outline.set_visible(False)
    bar.ax.minorticks_off()
    bar.set_label("share of the true class", fontsize=8.5)


def _pairs(axis, pairs: list[dict[str, Any]], height: float) -> None:
    """A short bar chart: true -> predicted, how often."""
    axis.set_axis_off()
    if not pairs:
        return
    shown = pairs[: max(3, int((height - 1) / 0.4))]
    line = 0.4 / height
    axis.text(0, 1, "most confused", transform=axis.transAxes, fontsize=11, fontweight="bold", va="top")
    most = max(pair["count"] for pair in shown)
    for i, pair in enumerate(shown):
        top = 1 - (i + 1.2) * line
        axis.text(
            0,
            top,
            f"{_short(pair['true'], 20)} → {_short(pair['predicted'], 20)}",
            transform=axis.transAxes,
            fontsize=8,
            va="top",
        )
        bar = axis.inset_axes((0, top - 0.62 * line, 0.72 * pair["count"] / most, 0.16 * line))
        bar.set_axis_off()
        bar.axhspan(0, 1, color=style.SPLITS["val"])
        note = f"{pair['count']} ({pair['share']:.0%})"
        axis.text(
            0.72 * pair["count"] / most + 0.03,
            top - 0.54 * line,
            note,
            transform=axis.transAxes,
            fontsize=7.5,
            va="center",
            color="#606060",
        )
