"""Figure of an ablation: seeds and mean of each cell, one panel per question, beside the published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcli.viz import style
from tfcli.viz.style import MARKERS, SERIES


def ablation(summary: Mapping[str, Any], path: Path | str) -> None:
    """Draw the table of an ablation.

    Rows of the ablation are rows of the figure, and columns have colours; small dots are seeds, large dots means. The
    last panel has the published figures, on its own scale. If there are at least three columns that are numbers, or if
    the ablation has a `curve` (metrics that end in `=NUMBER`), the figure has lines over these numbers instead.

    Args:
        summary: result of `tfcli.sweeps.ablation_table.summarize`.
        path: PNG file to write.
    """
    cells = [cell for cell in summary["cells"] if not cell["na"]]
    columns = list(dict.fromkeys(cell["column"] for cell in cells))
    if summary["curve"]:
        across = summary["curve"].rstrip("=").rpartition("/")[2]
        _lines(summary, _from_metrics(cells, summary["curve"]), path, across=across)
    elif len(columns) > 2 and all(_is_number(column) for column in columns):
        _lines(summary, _from_columns(cells), path, across=summary["axes"][1])
    else:
        _dots(summary, cells, columns, path)


def _dots(summary: Mapping[str, Any], cells: list[dict], columns: list[str], path: Path | str) -> None:
    rows = list(dict.fromkeys(cell["row"] for cell in cells))
    published = [cell for cell in cells if cell["published"] is not None]
    questions = list(summary["metrics"])
    panels = len(questions) + bool(published)
    step = 1.0 / (len(columns) + 1)
    height = 1.6 + len(rows) * max(0.32, 0.17 * len(columns))
    with style.figure(path, width=1.6 + 3.6 * panels, height=height) as figure:
        axes = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
        for axis, question in zip(axes, questions, strict=False):
            mine = [cell for cell in cells if cell["question"] == question]
            for cell in mine:
                place = rows.index(cell["row"]) + step * (columns.index(cell["column"]) + 1) - 0.5
                _cell(axis, cell, place, columns.index(cell["column"]))
            base = next((c for c in mine if [c["row"], c["column"]] == list(summary["default"])), None)
            if base and base["mean"] is not None:
                axis.axvline(base["mean"], color=style.FAINT, linewidth=1, linestyle=(0, (2, 2)), zorder=0.5)
            axis.set_title(question or summary["name"])
            axis.set_xlabel(summary["metrics"][question].replace("_", " "))
        if published:
            axis = axes[-1]
            for cell in published:
                number = columns.index(cell["column"])
                place = rows.index(cell["row"]) + step * (number + 1) - 0.5
                axis.plot(cell["published"], place, MARKERS[number % 7], mfc="white", mec=SERIES[number % 7], mew=1.6)
            axis.set_title("published")
            axis.set_xlabel(summary["published"]["source"], fontsize=8)
        for axis in axes:
            axis.grid(axis="x")
            axis.locator_params(axis="x", nbins=5)
            for row in range(1, len(rows)):
                axis.axhline(row - 0.5, color=style.RULE, linewidth=0.8, zorder=0)
        axes[0].set_yticks(range(len(rows)), rows)
        axes[0].set_ylim(len(rows) - 0.5, -0.5)
        if len(columns) > 1:
            _legend(figure, columns)


def _cell(axis: Any, cell: Mapping[str, Any], place: float, number: int) -> None:
    colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
    values = [value for value in cell["values"] if value is not None]
    if cell["mean"] is None:
        return
    if cell["std"]:
        low, high = cell["mean"] - cell["std"], cell["mean"] + cell["std"]
        axis.plot([low, high], [place, place], color=colour, linewidth=1.6, alpha=0.4, solid_capstyle="butt")
    if len(values) > 1:
        axis.plot(values, [place] * len(values), "o", color=colour, markersize=3.5, mec="white", mew=0.5, zorder=2)
    axis.plot(cell["mean"], place, marker, color=colour, markersize=6, zorder=3)


def _legend(figure: Any, columns: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=SERIES[i % 7], marker=MARKERS[i % 7], linestyle="", label=column)
        for i, column in enumerate(columns)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(columns)), fontsize=9)


Series = dict[tuple[str, str], list[tuple[float, float, float]]]
"""(panel, line) -> points: x, value, standard deviation."""


def _from_columns(cells: list[dict]) -> Series:
    found: Series = {}
    for cell in cells:
        if cell["mean"] is not None:
            point = (float(cell["column"]), cell["mean"], cell["std"] or 0.0)
            found.setdefault((cell["question"], cell["row"]), []).append(point)
    return found


def _from_metrics(cells: list[dict], prefix: str) -> Series:
    found: Series = {}
    for cell in cells:
        points = [(float(n.removeprefix(prefix)), v, 0.0) for n, v in cell["metrics"].items() if n.startswith(prefix)]
        if points:
            found[cell["column"] or cell["question"], cell["row"]] = sorted(points)
    return found


def _lines(summary: Mapping[str, Any], series: Series, path: Path | str, *, across: str) -> None:
    panels = list(dict.fromkeys(panel for panel, _ in series)) or [""]
    lines = list(dict.fromkeys(line for _, line in series))
    with style.figure(path, width=1.8 + 4.4 * len(panels), height=4.4 + 0.1 * len(lines)) as figure:
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=bool(summary["curve"]))[0]
        for axis, panel in zip(axes, panels, strict=True):
            for i, line in enumerate(lines):
                points = series.get((panel, line))
                if points:
                    x, y, spread = zip(*points, strict=True)
                    dashes = ("-", (0, (4, 2)), (0, (1, 1.5)))[i // len(SERIES) % 3]
                    look = {"color": SERIES[i % 7], "marker": MARKERS[i % 7], "linestyle": dashes, "label": line}
                    axis.errorbar(x, y, yerr=spread if any(spread) else None, markersize=4, linewidth=1.5, **look)
            numbers = sorted({x for points in series.values() for x, _, _ in points})
            if numbers[-1] >= 8 * numbers[0]:
                axis.set_xscale("log")
            axis.set_xticks(numbers, [f"{x:,.0f}" if x >= 1 else f"{x:g}" for x in numbers])
            axis.minorticks_off()
            if "seconds" in (summary["curve"] or ""):  # the slope is the exponent
                axis.set_yscale("log")
                axis.yaxis.set_major_formatter("{x:g}")
            axis.set_title(panel or summary["name"])
            axis.set_xlabel(across)
            axis.grid()
        unit = summary["curve"].rpartition("/")[0] if summary["curve"] else next(iter(summary["metrics"].values()))
        axes[0].set_ylabel(unit.replace("_", " "))
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", fontsize=8)


def _is_number(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False
