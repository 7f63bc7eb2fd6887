"""Figure of learning curves: loss and main figure against epochs, for train, validation and test."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tfcli.viz import style

Row = Sequence[Any]


def curves(
    rows: Iterable[Row],
    path: Path | str,
    *,
    monitor: str = "val/accuracy",
    lower_is_better: bool = False,
    title: str | None = None,
) -> dict:
    """Draw the learning curves of a run.

    Args:
        rows: `(epoch, step, name, value)` as in metrics.csv, with epochs from 0; names are `split/loss`,
            `split/accuracy`, and `train/loss_step` for single steps.
        path: PNG file to write.
        monitor: metric whose best epoch is marked; if it is missing, the first of val/accuracy, val/loss, train/loss.
        lower_is_better: whether smaller values of `monitor` are better.
        title: title above the panels.

    Returns:
        the numbers of the figure: for `loss` and the monitored figure (or `accuracy`) a dict split -> list of
        `[epoch, value]` (mean over the epoch, epochs from 1), and `best`: metric, epoch and value, or None.
    """
    kept = [(int(e), int(s), str(n), float(v)) for e, s, n, v in rows if math.isfinite(float(v))]
    series = {name: _by_epoch(kept, name) for name in dict.fromkeys(row[2] for row in kept)}
    watched = monitor.rpartition("/")[2]
    panels = ("loss", "accuracy" if watched.endswith("loss") else watched)
    drawn: dict[str, Any] = {
        panel: {s: series[f"{s}/{panel}"] for s in style.SPLITS if series.get(f"{s}/{panel}")} for panel in panels
    }
    drawn["best"] = _best(series, {monitor: min if lower_is_better else max})
    shown = [panel for panel in panels if drawn[panel]] or ["loss"]
    with style.figure(path, width=5.6 * len(shown), height=3.9) as figure:
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        for axis, panel in zip(axes, shown, strict=True):
            _panel(axis, panel, drawn, _steps(kept, f"train/{panel}_step"))
    return drawn


def _by_epoch(rows: list[tuple], name: str) -> list[list[float]]:
    epochs: dict[int, list[float]] = {}
    for epoch, _, row_name, value in rows:
        if row_name == name:
            epochs.setdefault(epoch, []).append(value)
    return [[epoch + 1, sum(values) / len(values)] for epoch, values in sorted(epochs.items())]


def _steps(rows: list[tuple], name: str) -> list[list[float]]:
    """Return the logged values against epochs as fractions."""
    found = [(epoch, step, value) for epoch, step, row_name, value in rows if row_name == name]
    if len(found) < 2:
        return []
    last: dict[int, int] = {}
    for epoch, step, _, _ in rows:
        last[epoch] = max(last.get(epoch, 0), step)
    length = max(last.values()) / (max(last) + 1) or 1
    return [[step / length, value] for _, step, value in found]


def _best(series: dict[str, list[list[float]]], monitored: dict[str, Callable]) -> dict[str, Any] | None:
    for name, pick in (monitored | {"val/accuracy": max, "val/loss": min, "train/loss": min} | monitored).items():
        points = series.get(name)
        if points:
            epoch, value = pick(points, key=lambda point: point[1])
            return {"metric": name, "epoch": int(epoch), "value": value}
    return None


def _panel(axis, panel: str, drawn: dict[str, Any], steps: list[list[float]]) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    if steps:
        axis.plot(*zip(*steps, strict=True), color=style.SPLITS["train"], alpha=0.25, linewidth=1)
    ends = []
    for split, points in drawn[panel].items():
        xs, ys = zip(*points, strict=True)
        colour = style.SPLITS[split]
        if len(points) == 1 and split == "test":
            axis.axhline(ys[0], color=colour, linestyle=(0, (4, 3)), linewidth=1.4)
        else:
            axis.plot(xs, ys, color=colour, marker="o" if len(points) <= 30 else None, markersize=4)
        ends.append((ys[-1], split))
    _label_ends(axis, ends, percent=panel != "loss")
    best = drawn["best"]
    if best:
        axis.axvline(best["epoch"], color=style.FAINT, linewidth=1, linestyle=(0, (2, 2)), zorder=0.5)
        if best["metric"].endswith(f"/{panel}"):
            edge = style.SPLITS.get(best["metric"].partition("/")[0], style.INK)
            axis.plot(best["epoch"], best["value"], "o", color="white", mec=edge, markersize=9, mew=2, zorder=3)
        low, high = axis.get_xlim()
        right = best["epoch"] > (low + high) / 2
        axis.annotate(
            f"best, epoch {best['epoch']}",
            (best["epoch"], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3 if right else -3, 3),
            textcoords="offset points",
            ha="right" if right else "left",
            va="bottom",
            fontsize=8,
            color="#707070",
        )
    axis.set_title(panel.replace("_", " "), pad=18)
    axis.set_xlabel("epoch")
    axis.grid(axis="y")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    if panel != "loss":
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _label_ends(axis, ends: list[tuple[float, str]], *, percent: bool) -> None:
    """Write name and last value of each curve to its right, without overlaps."""
    low, high = axis.get_ylim()
    gap = 0.065 * (high - low)
    ends = sorted(ends)
    places: list[float] = []
    for value, _ in ends:
        places.append(value if not places else max(value, places[-1] + gap))
    over = max(0.0, places[-1] - high) if places else 0.0
    for (value, split), place in zip(ends, places, strict=True):
        text = f"{split} {value:.1%}" if percent else f"{split} {value:.3f}"
        fraction = (place - over - low) / (high - low)
        axis.annotate(
            text,
            (1.0, fraction),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=style.SPLITS[split],
            fontsize=9.5,
            fontweight="bold",
            annotation_clip=False,
        )
    axis.set_ylim(low, high)
