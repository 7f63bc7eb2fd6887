"""A preview sheet of samples: pictures of the columns of each sample, with its texts below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tfcli.data.images.drawings import BESIDE, DRAWINGS, WIDE, Classes, Sample, Size, panel
from tfcli.data.images.panels import PAPER, RULE, below, beside, widened, written

CELL, GAP, MARGIN, ACROSS = 160, 10, 16, 6
"""Side of a square picture, gap and margin, in pixels, and the number of pictures in a line."""
_WIDEST = 2.2  # largest width of a picture, in cells


def sheet(samples: Sequence[Sample], columns: Sequence[str], classes: Classes) -> Image.Image:
    """Return a picture of samples, several in a line where each has few pictures.

    Args:
        samples: the cells of each sample by column; some columns may serve only the drawings of others.
        columns: the columns to show, in this order.
        classes: names of the classes of each column that holds classes.
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
        parts += [written(text, room, head=head) for head, text in text_lines(sample, texts, classes)]
        cards.append(below(parts, 6))
    lines = [
        beside([widened(card, width) for card in cards[i : i + across]], GAP if len(drawn) < 2 else 3 * GAP)
        for i in range(0, len(cards), across)
    ]
    return _page(lines, ruled=len(drawn) > 1)


def _room(samples: Sequence[Sample]) -> Size:
    """Return width and height of a picture with the area of a square cell and the median aspect ratio of the images."""
    cells = [sample[name] for sample in samples for name in ("image", "clip") if name in sample]
    aspect = float(np.median([cell.shape[-2] / cell.shape[-3] for cell in cells])) if cells else 1.0
    width = min(CELL * aspect**0.5, _WIDEST * CELL)
    return round(width), round(width / aspect)


def _page(lines: Sequence[Image.Image], *, ruled: bool) -> Image.Image:
    """Return lines of cards as one sheet with margins, and with rules between the lines if `ruled`."""
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
    """Return the further columns that the drawings of `columns` use."""
    return {other for name in columns for other in BESIDE.get(name, ())}


PAIRS = {"question": "answer", "statement": "truth"}
"""Pairs of columns that share one line of text."""
LISTED = ("caption", "choices")
"""Columns of lists of texts that take one line per text."""


def text_lines(sample: Sample, columns: Sequence[str], classes: Classes) -> list[tuple[str, str]]:
    """Return (name, text) for each line of text of a sample; the name is empty where there is only one column."""
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
    """Return a cell as text: the name of a class, the items of a list with bars between them, a large array's shape."""
    if classes and isinstance(cell, (int, np.integer)) and 0 <= cell < len(classes):
        return classes[int(cell)]
    if isinstance(cell, np.ndarray):
        return str(cell.tolist()) if cell.size <= 16 else f"{cell.dtype} {' x '.join(map(str, cell.shape))}"
    return " | ".join(map(str, cell)) if isinstance(cell, (list, tuple)) else str(cell)


def spread(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the positions of `count` samples, the first sample of each class, then the second of each, and so on."""
    order = np.argsort(labels, kind="stable")
    turn = np.empty(len(labels), dtype=np.int64)
    _, starts = np.unique(labels[order], return_index=True)
    turn[order] = np.arange(len(labels)) - np.repeat(starts, np.diff([*starts, len(labels)]))
    return np.lexsort((labels, turn))[:count]


def save(sheet: Image.Image, path: Path) -> None:
    """Write a PNG file, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, format="PNG")
