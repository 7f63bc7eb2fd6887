"""A contact sheet: some images of a set with their class names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfcli.data.common.printable import printable

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
