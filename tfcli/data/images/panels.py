"""Parts of a picture that people look at: wrapped text, legends and scales, laid beside and below each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfcli.data.common.printable import printable

INK, FAINT, RULE, PAPER = (34, 34, 34), (120, 120, 120), (222, 222, 222), (255, 255, 255)
SIZE = 12
"""Of letters, in pixels."""
Colour = tuple[int, int, int]


@lru_cache
def font(size: int = SIZE) -> ImageFont.FreeTypeFont:
    """Return matplotlib's own font, which has accents, Greek and Cyrillic."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def colours(count: int) -> list[Colour]:
    """Return colours that can be told apart, the same for the same place: hues a golden angle apart, in two shades."""
    import colorsys

    shades = ((0.75, 0.9), (0.95, 0.6))
    found = (colorsys.hsv_to_rgb(i * 0.618034 % 1, *shades[i % 2]) for i in range(count))
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in found]


def beside(parts: Sequence[Image.Image], gap: int) -> Image.Image:
    """Return pictures in a row, their upper ends aligned."""
    width = sum(part.width for part in parts) + gap * (len(parts) - 1)
    whole = Image.new("RGB", (max(1, width), max((part.height for part in parts), default=1)), PAPER)
    x = 0
    for part in parts:
        whole.paste(part, (x, 0))
        x += part.width + gap
    return whole


def below(parts: Sequence[Image.Image], gap: int) -> Image.Image:
    """Return pictures one below the other, their left ends aligned."""
    height = sum(part.height for part in parts) + gap * (len(parts) - 1)
    whole = Image.new("RGB", (max((part.width for part in parts), default=1), max(1, height)), PAPER)
    y = 0
    for part in parts:
        whole.paste(part, (0, y))
        y += part.height + gap
    return whole


def widened(part: Image.Image, width: int) -> Image.Image:
    """Return a picture with paper on its right, where it is narrower than that."""
    whole = Image.new("RGB", (max(width, part.width), part.height), PAPER)
    whole.paste(part, (0, 0))
    return whole


def wrapped(text: str, width: int, face: ImageFont.FreeTypeFont, *, most: int = 8) -> list[str]:
    """Return the lines of a text, parted between words; a word that is wider than a line is parted inside.

    Args:
        text: any.
        width: of a line, in pixels.
        face: its letters.
        most: lines; what is left out is replaced by an ellipsis.
    """
    lines = [""]
    for word in printable(" ".join(text.split())).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if face.getlength(longer) <= width:
            lines[-1] = longer
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = word
        while face.getlength(lines[-1]) > width and len(lines[-1]) > 1:
            fits = next(n for n in range(len(lines[-1]) - 1, 0, -1) if n == 1 or face.getlength(lines[-1][:n]) <= width)
            lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    if len(lines) > most:
        kept = lines[most - 1].split(" ")
        while len(kept) > 1 and face.getlength(" ".join([*kept, "…"])) > width:
            kept.pop()
        lines = [*lines[: most - 1], " ".join([*kept, "…"])]
    return lines


def written(text: str, width: int, *, head: str = "", colour: Colour = INK, size: int = SIZE) -> Image.Image:
    """Return a text as a picture of a given width, behind a fainter word that says what it is."""
    face = font(size)
    lines, step = wrapped(f"{head} {text}".strip(), width, face), size + 4
    whole = Image.new("RGB", (width, step * len(lines)), PAPER)
    draw = ImageDraw.Draw(whole)
    for i, line in enumerate(lines):
        draw.text((0, i * step), line, fill=colour, font=face)
    if head:
        draw.text((0, 0), head, fill=FAINT, font=face)
    return whole


def legend(entries: Iterable[tuple[Colour, str]], width: int) -> Image.Image:
    """Return names behind squares of their colours, as many in a line as there is room for."""
    face, square, gap = font(SIZE - 1), SIZE - 2, 4
    rows: list[list[Image.Image]] = [[]]
    left = width
    for colour, name in entries:
        lines = wrapped(name, width - square - gap, face)
        wide = square + gap + max(round(face.getlength(line)) for line in lines) + 1
        if rows[-1] and wide > left:
            rows.append([])
            left = width
        entry = Image.new("RGB", (wide, (SIZE + 3) * len(lines)), PAPER)
        draw = ImageDraw.Draw(entry)
        draw.rectangle((0, 2, square - 1, square + 1), fill=colour)
        for i, line in enumerate(lines):
            draw.text((square + gap, i * (SIZE + 3)), line, fill=INK, font=face)
        rows[-1].append(entry)
        left -= wide + 8
    return below([beside(row, 8) for row in rows], 0)


def scale(low: float, high: float, shades: np.ndarray, width: int, unit: str) -> Image.Image:
    """Return a strip of colours with the values of its ends.

    Args:
        low, high: of the values.
        shades: (256, 3) uint8, their colours.
        width: in pixels.
        unit: of the values, `px`.
    """
    strip = Image.fromarray(np.broadcast_to(shades[None], (8, 256, 3)).copy()).resize((width, 8))
    ends = [f"{value:.3g}{' ' * bool(unit)}{unit}" for value in (low, high)]
    face = font(SIZE - 1)
    words = Image.new("RGB", (width, SIZE + 3), PAPER)
    draw = ImageDraw.Draw(words)
    draw.text((0, 0), ends[0], fill=INK, font=face)
    draw.text((width - face.getlength(ends[1]), 0), ends[1], fill=INK, font=face)
    return below([strip, words], 2)
