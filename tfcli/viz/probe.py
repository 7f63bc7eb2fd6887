"""Figures of a probe: linear by C, kNN by K, zero-shot by class and template, few-shot by the number of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcli.viz import style

MOST_BARS = 20


def against_penalty(found: dict[str, dict[str, Any]], path: Path, title: str) -> Path:
    """Draw the validation accuracy of linear probes against C."""
    with style.figure(path, width=5.6, height=3.6) as figure:
        axis = figure.subplots()
        for series, colour in zip(found.values(), style.SPLITS.values(), strict=False):
            points = sorted(series["C"])
            best = max(points, key=lambda p: (p[1], -p[0]))
            kind = "normalised features" if series.get("unit") else "unnormalised features"
            label = f"{kind}: {best[1]:.3f} at C = {best[0]:.3g}"
            axis.plot(*zip(*points, strict=True), marker="o", markersize=4, color=colour, label=label)
            axis.plot(*best, "o", color="white", mec=colour, mew=2, markersize=9, zorder=3)
        axis.set(xscale="log", xlabel="C (inverse regularisation)", ylabel="accuracy on validation", title=title)
        axis.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axis.margins(y=0.15)
        axis.grid(axis="y")
        figure.legend(loc="outside lower center")
    return path


def against_neighbours(series: dict[str, Any], path: Path, title: str) -> Path:
    """Draw the accuracy of kNN against K."""
    with style.figure(path, width=5.6, height=3.6) as figure:
        axis = figure.subplots()
        ks = [k for k, _ in series["test"]]
        for split in ("val", "test"):
            if series.get(split):
                values = [v for _, v in series[split]]
                axis.plot(range(len(ks)), values, marker="o", markersize=5, color=style.SPLITS[split], label=split)
        place = ks.index(series["best_k"])
        axis.axvline(place, color=style.FAINT, linewidth=1, linestyle=":")
        axis.set(xlabel="K, the number of neighbours", ylabel="accuracy", title=title)
        axis.set_xticks(range(len(ks)), [str(k) for k in ks])
        axis.margins(y=0.15)
        axis.grid(axis="y")
        axis.legend(loc="best")
    return path


def bars(rows: list[tuple[str, float]], path: Path, title: str, words: str) -> Path:
    """Draw named accuracies, best first; if there are many, only the best and the worst."""
    rows = sorted(rows, key=lambda r: r[1], reverse=True)
    if len(rows) > MOST_BARS:
        half = MOST_BARS // 2
        words += f" (the best {half} and the worst {half} of {len(rows)})"
        rows = [*rows[:half], *rows[-half:]]
    with style.figure(path, width=7.2, height=1.2 + 0.26 * len(rows)) as figure:
        axis = figure.subplots()
        places = range(len(rows))[::-1]
        axis.barh(list(places), [v for _, v in rows], color=style.SPLITS["train"], height=0.7)
        axis.set_yticks(list(places), [t if len(t) <= 60 else f"{t[:57]}..." for t, _ in rows])
        for place, (_, value) in zip(places, rows, strict=True):
            axis.text(value, place, f" {value:.3f}", va="center", fontsize=8.5)
        axis.set(xlabel=words, title=title)
        axis.set_xlim(0, max(v for _, v in rows) * 1.12 or 1)
    return path


def samples(images: Sequence[Any], truth: Sequence[str], guess: Sequence[str], path: Path, *, title: str) -> Path:
    """Draw images (Y, X, 3), six in a row, with true and predicted class above each."""
    across = min(6, len(images))
    down = -(-len(images) // across)
    with style.figure(path, width=1.9 * across, height=2.2 * down + 0.4) as figure:
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, image, true, predicted in zip(axes, images, truth, guess, strict=False):
            axis.imshow(image)
            mark, colour = ("✓", style.SPLITS["test"]) if predicted == true else ("✗", style.SPLITS["val"])
            axis.set_title(f"{_cut(true)}\n", fontsize=8, fontweight="normal", loc="center", pad=3)
            text = f"{mark} {_cut(predicted)}"
            axis.text(0.5, 1.03, text, color=colour, fontsize=8, ha="center", transform=axis.transAxes)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return path


def _cut(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def against_shots(rows: list[dict[str, Any]], zero: float | None, path: Path, title: str) -> Path:
    """Draw the accuracy of few-shot probes against the number of images of each class, beside zero-shot."""
    with style.figure(path, width=5.6, height=3.6) as figure:
        axis = figure.subplots()
        ns = [row["n"] for row in rows]
        means, spreads = [row["mean"] for row in rows], [row["std"] for row in rows]
        axis.errorbar(ns, means, yerr=spreads, marker="o", markersize=5, color=style.SPLITS["train"], capsize=3)
        if zero is not None:
            axis.axhline(zero, color=style.SPLITS["val"], linewidth=1.5, linestyle="--", label="zero-shot")
            axis.legend(loc="lower right")
        axis.set(xscale="log", xlabel="labelled images per class", ylabel="test accuracy", title=title)
        axis.set_xticks(ns, [str(n) for n in ns])
        axis.minorticks_off()
        axis.margins(y=0.15)
        axis.grid(axis="y")
    return path
