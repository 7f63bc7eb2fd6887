"""Drawings of a sample's columns for previews: images, masks, boxes, depth, clips and meshes.

A drawing function takes a sample, the name of the column and the available size. It may use other columns of the
sample: a mask is drawn over its image, and boxes have the names in `object_tags`. A column without a drawing function
is shown as text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tfcli.data.images.masks import VOID
from tfcli.data.images.meshes import shaded
from tfcli.data.images.panels import FAINT, below, beside, colours, legend, scale, widened, written

Sample = Mapping[str, Any]
"""The cells of a row by column name; images are (Y, X, 3) uint8."""
Classes = Mapping[str, Sequence[str]]
"""Names of the classes of each column that holds classes."""
Size = tuple[int, int]
"""Width and height, in pixels."""

_MARK = (230, 60, 60)
_FRAMES = 8  # most frames of a clip that are shown
_FIXED_COLOURS = 24  # up to this number of classes, each class has the same colour in all samples


def fitted(image: np.ndarray, size: Size, *, sharp: bool = False) -> Image.Image:
    """Return an array (Y, X) or (Y, X, 3) uint8 as the largest picture within a size, with its aspect ratio.

    Args:
        image: the array.
        size: the available size.
        sharp: whether pixels are never averaged, as classes need it.
    """
    factor = min(size[0] / image.shape[1], size[1] / image.shape[0])
    width, height = (max(1, round(factor * length)) for length in (image.shape[1], image.shape[0]))
    how = Image.Resampling.NEAREST if sharp or factor > 1 else Image.Resampling.LANCZOS
    return Image.fromarray(np.ascontiguousarray(image)).resize((width, height), how)


def _photograph(sample: Sample, name: str, size: Size, classes: Classes) -> Image.Image:
    return fitted(sample[name], size)


def _ground(sample: Sample, shape: tuple[int, ...], size: Size) -> np.ndarray:
    """Return the sample's image, or a grey image of `shape`, as a picture (Y, X, 3) to draw on."""
    image = sample.get("image")
    return np.asarray(fitted(np.full((*shape, 3), 128, np.uint8) if image is None else image, size))


def _covered(ground: np.ndarray, numbers: np.ndarray, palette: Mapping[int, Any]) -> Image.Image:
    """Return a picture with some of its pixels coloured.

    Args:
        ground: the picture, (Y, X, 3) uint8.
        numbers: classes (Y', X') uint8, of any size.
        palette: colour of each class; other classes stay uncoloured.
    """
    places = np.asarray(Image.fromarray(numbers).resize(ground.shape[1::-1], Image.Resampling.NEAREST))
    picture = 0.35 * ground.mean(axis=2, keepdims=True) + 0.25 * ground + 40
    for number, colour in palette.items():
        there = places == number
        picture[there] = 0.35 * picture[there] + 0.65 * np.array(colour)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def _mask(sample: Sample, name: str, size: Size, classes: Classes) -> Image.Image:
    """Draw each class in its colour over the image; the background and void pixels stay grey."""
    numbers = np.asarray(sample[name]).astype(np.uint8)
    names = classes.get(name, ())
    called = {n: "void" if n == VOID else names[n] if n < len(names) else str(n) for n in np.unique(numbers).tolist()}
    seen = [n for n in called if called[n] not in ("background", "void", "0")]
    places = seen if len(names) <= _FIXED_COLOURS else range(len(seen))
    palette = colours(max(places, default=-1) + 1)
    shown = {n: palette[place] for n, place in zip(seen, places, strict=True)}
    picture = _covered(_ground(sample, numbers.shape, size), numbers, shown)
    return below([picture, legend(((shown[n], called[n]) for n in shown), size[0])], 5)


def _marked(sample: Sample, name: str, size: Size, classes: Classes) -> Image.Image:
    """Draw the true pixels in red over the image."""
    there = np.asarray(sample[name])
    picture = _covered(_ground(sample, there.shape, size), there.astype(np.uint8), {1: _MARK})
    return below([picture, legend([(_MARK, f"{name}: {there.mean():.1%}")], size[0])], 5)


def _boxes(sample: Sample, name: str, size: Size, classes: Classes) -> Image.Image:
    """Draw boxes (k, 4) of left, top, right, bottom on the image; boxes without area are omitted."""
    boxes = np.asarray(sample[name]).reshape(-1, 4)
    ground = Image.fromarray(_ground(sample, (int(boxes.max(initial=1)),) * 2, size))
    factor = ground.width / (sample["image"].shape[1] if "image" in sample else max(1, boxes.max(initial=1)))
    numbers = [str(i) for i in range(1, len(boxes) + 1)]
    names = [sample.get("expression", "")] if name == "target_box" else sample.get("object_tags", numbers)
    draw, entries = ImageDraw.Draw(ground), []
    for box, called, colour in zip(boxes, names, colours(len(boxes)), strict=True):
        if (box[2:] > box[:2]).all():
            draw.rectangle([*(factor * box[:2]), *(factor * box[2:] - 1)], outline=colour, width=2)
            entries.append((colour, called or "?"))
    return below([ground, legend(entries, size[0])], 5)


def _regions(sample: Sample, name: str, size: Size, classes: Classes) -> Image.Image:
    """Draw crops (k, Y, X, 3) in two columns, each above its name."""
    crops = sample[name]
    tags = sample.get("object_tags", [str(i) for i in range(1, len(crops) + 1)])
    half = ((size[0] - 6) // 2, (size[0] - 6) // 2)
    cells = [
        below([fitted(crop, half), written(tag, half[0], size=11)], 3)
        for crop, tag in zip(crops, tags, strict=True)
        if np.any(crop)
    ]
    return below([beside(cells[i : i + 2], 6) for i in range(0, len(cells), 2)], 6)


def _heat(sample: Sample, name: str, size: Size, classes: Classes) -> Image.Image:
    """Draw values (Y, X) in colours from dark to light with a scale; unknown values are grey."""
    from matplotlib import colormaps

    values = np.asarray(sample[name], dtype=np.float64)
    known = np.isfinite(values) & (values > 0 if name == "depth" else values >= 0)
    low, high = (float(end(values[known])) if known.any() else 0.0 for end in (np.min, np.max))
    shades = (255 * colormaps["viridis"](np.linspace(0, 1, 256))[:, :3]).round().astype(np.uint8)
    places = np.where(known, (values - low) / max(high - low, 1e-9) * 255, 0).astype(np.uint8)
    picture = np.where(known[..., None], shades[places], np.uint8(210))
    return below([fitted(picture, size, sharp=True), scale(low, high, shades, size[0], _UNITS.get(name, ""))], 5)


def _strip(sample: Sample, name: str, size: Size, classes: Classes) -> Image.Image:
    """Draw frames (T, Y, X, 3) in rows; with a story, the first and last frame of each segment and its sentence."""
    frames, story = sample[name], sample.get(_STORIES[name])
    if story is None:
        rows = np.unique(np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int)).tolist()
        cells = [below([fitted(frames[i], size), written(f"frame {i + 1}", size[0], colour=FAINT)], 3) for i in rows]
        return below([beside(cells[i : i + 4], 6) for i in range(0, len(cells), 4)], 6)
    length, small = len(frames) // len(story), (size[0] * 2 // 3, size[1] * 2 // 3)
    segments = []
    for i, sentence in enumerate(story):
        pair = beside([fitted(frames[i * length + end], small) for end in (0, length - 1)], 2)
        segments.append(below([pair, written(sentence, pair.width)], 4))
    return beside(segments, 12)


def _mesh(sample: Sample, name: str, size: Size, classes: Classes) -> Image.Image:
    mesh = sample[name]
    counts = f"{len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces"
    return below([shaded(mesh.vertices, mesh.faces, size), written(counts, size[0], colour=FAINT, size=11)], 3)


_UNITS = {"disparity": "px"}
_STORIES = {"clip": "story", "twin": "twin_story"}
DRAWINGS: dict[str, Callable[[Sample, str, Size, Classes], Image.Image]] = {
    **dict.fromkeys(("image", "right", "second"), _photograph),
    **dict.fromkeys(("mask", "instance"), _mask),
    **dict.fromkeys(("occluded", "support"), _marked),
    **dict.fromkeys(("boxes", "amodal", "target_box"), _boxes),
    "regions": _regions,
    **dict.fromkeys(("depth", "disparity"), _heat),
    **dict.fromkeys(_STORIES, _strip),
    "mesh": _mesh,
}
"""The drawing function of each column."""
WIDE = frozenset(_STORIES)
"""Columns that take a line of their own."""
BESIDE = {
    **dict.fromkeys(("mask", "instance", "occluded", "support"), ("image",)),
    **dict.fromkeys(("boxes", "amodal"), ("image", "object_tags")),
    "target_box": ("image", "expression"),
    "regions": ("object_tags",),
    **{clip: (story,) for clip, story in _STORIES.items()},
}
"""Further columns that a drawing uses where the data set has them."""


def panel(sample: Sample, name: str, size: Size, classes: Classes, *, titled: bool) -> Image.Image:
    """Return the drawing of a column, below its name if `titled`."""
    picture = widened(DRAWINGS[name](sample, name, size, classes), size[0])
    return below([written(name, size[0], colour=FAINT, size=11), picture], 2) if titled else picture
