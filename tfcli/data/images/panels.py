"""Parts of preview pictures: wrapped text, legends, colour scales, and their layout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfcli.data.common.printable import printable

INK, FAINT, RULE, PAPER = (34, 34, 34), (120, 120, 120), (222, 222, 222), (255, 255, 255)
SIZE = 12
"""Font size, in pixels."""
Colour = tuple[int, int, int]


@lru_cache
def font(size: int = SIZE) -> ImageFont.FreeTypeFont:
    """Return matplotlib's font, which has accents, Greek and Cyrillic."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def colours(count: int) -> list[Colour]:
    """Return distinct colours, with hues a golden angle apart in two shades; the first ones never depend on `count`."""
    import colorsys

    shades = ((0.75, 0.9), (0.95, 0.6))
    found = (colorsys.hsv_to_rgb(i * 0.618034 % 1, *shades[i % 2]) for i in range(count))
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in found]


def beside(parts: Sequence[Image.Image], gap: int) -> Image.Image:
    """Return pictures side by side, aligned at the top."""
    width = sum(part.width for part in parts) + gap * (len(parts) - 1)
    whole = Image.new("RGB", (max(1, width), max((part.height for part in parts), default=1)), PAPER)
    x = 0
    for part in parts:
        whole.paste(part, (x, 0))
        x += part.width + gap
    return whole


def below(parts: Sequence[Image.Image], gap: int) -> Image.Image:
    """Return pictures one below the other, aligned at the left."""
    height = sum(part.height for part in parts) + gap * (len(parts) - 1)
    whole = Image.new("RGB", (max((part.width for part in parts), default=1), max(1, height)), PAPER)
    y = 0
    for part in parts:
        whole.paste(part, (0, y))
        y += part.height + gap
    return whole


def widened(part: Image.Image, width: int) -> Image.Image:
    """Return a picture padded on the right to at least `width`."""
    whole = Image.new("RGB", (max(width, part.width), part.height), PAPER)
    whole.paste(part, (0, 0))
    return whole


def wrapped(text: str, width: int, face: ImageFont.FreeTypeFont, *, most: int = 8) -> list[str]:
    """Return the lines of a text, wrapped between words, or inside a word that is wider than a line.

    Args:
        text: the text.
        width: width of a line, in pixels.
        face: the font.
        most: largest number of lines; an ellipsis replaces the rest.
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
    """Return a text as a picture of a given width, after `head` in a fainter colour."""
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
    """Return a legend of names with squares of their colours, wrapped at a width."""
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
    """Return a colour scale with the values of its two ends.

    Args:
        low, high: the smallest and the largest value.
        shades: (256, 3) uint8, the colours from low to high.
        width: width of the scale, in pixels.
        unit: unit of the values, such as `px`.
    """
    strip = Image.fromarray(np.broadcast_to(shades[None], (8, 256, 3)).copy()).resize((width, 8))
    ends = [f"{value:.3g}{' ' * bool(unit)}{unit}" for value in (low, high)]
    face = font(SIZE - 1)
    words = Image.new("RGB", (width, SIZE + 3), PAPER)
    draw = ImageDraw.Draw(words)
    draw.text((0, 0), ends[0], fill=INK, font=face)
    draw.text((width - face.getlength(ends[1]), 0), ends[1], fill=INK, font=face)
    return below([strip, words], 2)
