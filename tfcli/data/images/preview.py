"""A sheet of samples: the columns of each drawn as what they are, and its texts below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tfcli.data.images.drawings import BESIDE, DRAWINGS, WIDE, Classes, Sample, Size, panel
from tfcli.data.images.panels import PAPER, RULE, below, beside, widened, written

CELL, GAP, MARGIN, ACROSS = 160, 10, 16, 6
"""Side of a square picture and distances, in pixels; pictures in a line."""
_WIDEST = 2.2  # of a picture, times its cell


def sheet(samples: Sequence[Sample], columns: Sequence[str], classes: Classes) -> Image.Image:
    """Return a picture of samples, several in a line where each has few pictures.

    Args:
        samples: their cells by column; some may be there only to be looked at by a drawing.
        columns: those that are shown, in this order.
        classes: names of the classes of each column that has some.
    """
    size, drawn = _room(samples), [name for name in columns if name in DRAWINGS]
    texts = [name for name in columns if name not in drawn and name not in beside_of(drawn)]
    pictures, wide = ([name for name in drawn if (name in WIDE) == width] for width in (False, True))
    across = 1 if wide else max(1, ACROSS // max(1, len(pictures)))
    width = min(max(1, len(pictures)), ACROSS) * (size[0] + GAP) - GAP
    cards = []
    for sample in samples:
        panels = [panel(sample, name, size, classes, titled=len(drawn) > 1) for name in pictures]
        parts = [beside(panels[i : i + ACROSS], GAP) for i in range(0, len(panels), ACROSS)]
        parts += [panel(sample, name, size, classes, titled=True) for name in wide]
        room = max([width, *(part.width for part in parts)])
        parts += [written(text, room, head=head) for head, text in told(sample, texts, classes)]
        cards.append(below(parts, 6))
    lines = [
        beside([widened(card, width) for card in cards[i : i + across]], GAP if len(drawn) < 2 else 3 * GAP)
        for i in range(0, len(cards), across)
    ]
    return _page(lines, ruled=len(drawn) > 1)


def _room(samples: Sequence[Sample]) -> Size:
    """Return width and height of a picture: as large as a square cell, in the proportions of what is mostly drawn."""
    cells = [sample[name] for sample in samples for name in ("image", "clip") if name in sample]
    aspect = float(np.median([cell.shape[-2] / cell.shape[-3] for cell in cells])) if cells else 1.0
    width = min(CELL * aspect**0.5, _WIDEST * CELL)
    return round(width), round(width / aspect)


def _page(lines: Sequence[Image.Image], *, ruled: bool) -> Image.Image:
    """Return lines of cards as one sheet with even margins, and rules between them."""
    step = 2 * GAP if ruled else GAP
    width, height = max(line.width for line in lines), sum(line.height + step for line in lines) - step
    whole = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), PAPER)
    draw, y = ImageDraw.Draw(whole), MARGIN
    for i, line in enumerate(lines):
        if ruled and i:
            draw.line((MARGIN, y - GAP, whole.width - MARGIN - 1, y - GAP), fill=RULE)
        whole.paste(line, (MARGIN, y))
        y += line.height + step
    return whole


def beside_of(columns: Iterable[str]) -> set[str]:
    """Return the columns that drawings of others look at too."""
    return {other for name in columns for other in BESIDE.get(name, ())}


PAIRS = {"question": "answer", "statement": "truth"}
"""Columns that are told in one line."""
LISTED = ("caption", "choices")
"""Columns of several texts, each of which is told by itself."""


def told(sample: Sample, columns: Sequence[str], classes: Classes) -> list[tuple[str, str]]:
    """Return columns as texts, each behind its name where there are several; of a list of texts, one for each."""
    first = [name for name in columns if name not in {b for a, b in PAIRS.items() if a in columns}]
    found = []
    for name in first:
        texts = sample[name] if name in LISTED else [spelled(sample[name], classes.get(name, ()))]
        other = PAIRS.get(name, "")
        if other in columns:
            second = spelled(sample[other], classes.get(other, ()))
            texts = [f"{text} {second}" if text.endswith("?") else f"{text}: {second}" for text in texts]
        found += [(name if len(first) > 1 else "", text) for text in texts]
    return found


def spelled(cell: Any, classes: Sequence[str] = ()) -> str:
    """Return a cell as a text: a class by its name, a list with bars between its items, a large array by its shape."""
    if classes and isinstance(cell, (int, np.integer)) and 0 <= cell < len(classes):
        return classes[int(cell)]
    if isinstance(cell, np.ndarray):
        return str(cell.tolist()) if cell.size <= 16 else f"{cell.dtype} {' x '.join(map(str, cell.shape))}"
    return " | ".join(map(str, cell)) if isinstance(cell, (list, tuple)) else str(cell)


def spread(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions of `count` samples, classes in turn: the first of each, then the second of each, ..."""
    order = np.argsort(labels, kind="stable")
    turn = np.empty(len(labels), dtype=np.int64)
    _, starts = np.unique(labels[order], return_index=True)
    turn[order] = np.arange(len(labels)) - np.repeat(starts, np.diff([*starts, len(labels)]))
    return np.lexsort((labels, turn))[:count]


def save(sheet: Image.Image, path: Path) -> None:
    """Write a PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, format="PNG")
