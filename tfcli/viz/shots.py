"""Figure of in-context learning: accuracy against the number of demonstrations in the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfcli.viz import style


def accuracy_by_shots(
    rows: Sequence[tuple[int, float, float, float]], path: Path | str, *, chance: float | None, title: str
) -> None:
    """Draw in-context learning.

    Args:
        rows: number of demonstrations, accuracy, and both ends of its 95 % interval.
        path: PNG file to write.
        chance: accuracy of random guessing; None for free answers.
        title: title above the figure.
    """
    shots, accuracy, low, high = (list(column) for column in zip(*rows, strict=True))
    with style.figure(path, width=5.6, height=3.9) as figure:
        axis = figure.subplots()
        axis.fill_between(range(len(shots)), low, high, color=style.SPLITS["test"], alpha=0.18, linewidth=0)
        axis.plot(range(len(shots)), accuracy, color=style.SPLITS["test"], marker="o")
        if chance:
            axis.axhline(chance, color=style.FAINT, linestyle="--", linewidth=1.2)
            axis.annotate("chance", (len(shots) - 1, chance), textcoords="offset points", xytext=(0, 4), ha="right")
        axis.set_xticks(range(len(shots)), [str(k) for k in shots])
        axis.set(xlabel="demonstrations in the prompt", ylabel="accuracy", ylim=(0, 1.02), title=title)
        axis.grid(axis="y")
