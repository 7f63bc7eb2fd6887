"""A contact sheet: some images of a set with their class names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfcli.data.common.picked import pick, taken
from tfcli.data.common.printable import printable
from tfcli.data.common.rows import Columns, height

CELL, TEXT, GAP = 128, 18, 8


def contact_sheet(images: np.ndarray, names: Sequence[str], *, columns: int = 6) -> Image.Image:
    """Images (N, Y, X, 3) uint8 in rows of `columns`, enlarged or reduced to 128 pixels, each above its name."""
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (CELL + GAP) + GAP, rows * (CELL + TEXT + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        x, y = GAP + i % columns * (CELL + GAP), GAP + i // columns * (CELL + TEXT + GAP)
        how = Image.Resampling.NEAREST if image.shape[0] < CELL else Image.Resampling.BILINEAR
        sheet.paste(Image.fromarray(image).resize((CELL, CELL), how), (x, y))
        text = printable(name)
        while draw.textlength(text, font=font) > CELL and len(text) > 2:
            text = text[:-2] + "…"
        draw.text((x, y + CELL + 2), text, fill="black", font=font)
    return sheet


def shown(table: Columns, classes: Sequence[str], count: int) -> tuple[np.ndarray, list[str]]:
    """Return some rows of a table of images, and what each shows in words: classes in turn, or rows evenly drawn."""
    if "label" in table:
        rows = spread(table["label"], count)
        return rows, [classes[label] for label in table["label"][rows]]
    rows = np.unique(np.linspace(0, height(table) - 1, count).astype(np.int64))
    if "caption" in table:
        return rows, [own[0] for own in taken(pick(table["caption"], rows))]
    words = {name: taken(pick(table[name], rows)) for name in ("question", "answer") if name in table}
    if not words:
        return rows, [str(row) for row in rows]
    return rows, [f"{classes[answer]}: {question}" for question, answer in zip(*words.values(), strict=True)]


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
