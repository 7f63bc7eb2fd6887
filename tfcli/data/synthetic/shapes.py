"""The procedural world of coloured shapes: a sample is a pure function of (seed, stream, index).

A scene has up to four objects on a 4 x 4 grid of cells, each with a colour, a shape and a size; no two share colour
and shape. It is painted once as a map of object numbers, far to near, and everything else is a look-up on that map:
image, masks and boxes are exact and agree by construction. Sizes of groups: 8 colours, 6 shapes, 3 sizes.

Twelve of the 48 (colour, shape) pairs, those with (colour + shape) mod 4 = 3, never occur in `train`, `val` and
`test`. In `comp` the first object always has one of them: each attribute is known, the combination is new.

With `quadrants` the picture is cut into four tiles; the first object is the only circle, each stands in a tile of its
own, and what a tile shows does not depend on where it lies. Exchanging tiles therefore only moves patches about: the
bag of patches (of any size that divides a tile) says nothing of where the circle is, and only positions can. A `cross`
between the tiles, each arm in a colour of its own, is the same in every picture: landmarks for relative positions.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

import numpy as np

from tfcli.data.hashing import below, hash64, uniform
from tfcli.data.synthetic.language import CHOICES, captions

VERSION = 1  # of the format: part of every address, to be raised on any change of what an index shows

COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "white")
RGB = np.array(
    [
        (220, 40, 40),
        (40, 180, 60),
        (50, 80, 225),
        (235, 220, 50),
        (150, 60, 190),
        (60, 205, 215),
        (240, 140, 40),
        (245, 245, 245),
    ],
    dtype=np.uint8,
)
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
SIZES = ("small", "medium", "large")
RADII = (0.115, 0.16, 0.21)  # of the side of the image
MOST_OBJECTS = 4
STREAMS = {"train": 0, "val": 1, "test": 2, "comp": 3}
PAIR_NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
HELD_OUT = np.array([(c + s) % 4 == 3 for c in range(len(COLOURS)) for s in range(len(SHAPES))])
_CIRCLES = np.arange(len(PAIR_NAMES)) % len(SHAPES) == SHAPES.index("circle")
QUADRANTS = ("top left", "top right", "bottom left", "bottom right")
FIELDS = ("image", "objects", "label", "instance", "semantic", "boxes", "amodal", "caption", "captions")
WORDINGS = 5  # sentences about a scene
OBJECT_COLUMNS = ("colour", "shape", "size", "x", "y", "depth", "valid")

# Where each choice of a scene stands among its hashed words.
_CELL, _PAIR, _SIZE, _X, _Y, _TEXTURE = 0, 16, 64, 68, 72, 76
_BACKGROUND, _COUNT, _NEW_PAIR, _WORDS, _ALL = 81, 82, 83, 84, 96
_TILE, _TILE_TEXTURE, _ALL_OF_TILES = 96, 100, 104
_NOISE_SIDE = 128


class ShapesWorld:
    """Scenes of coloured shapes by address, a batch at a time, in plain numpy.

    Args:
        size: side of the image, in pixels (32, 48, 64 or 96 are the usual ones; at least 16).
        k: objects in a scene, 1..4; with `vary` the most there may be.
        seed: of the world.
        texture: noise on objects (attached to them) and background; without it colours are flat.
        vary: draw the number of objects from 1..k.
        quadrants: four tiles with at most one object each, the first of them the only circle.
        cross: width of the cross between the tiles, in pixels; 0: none.

    Raises:
        ValueError: a size or number out of range.
    """

    def __init__(
        self,
        size: int = 32,
        *,
        k: int = 1,
        seed: int = 0,
        texture: bool = True,
        vary: bool = False,
        quadrants: bool = False,
        cross: int = 0,
    ):
        if not 1 <= k <= MOST_OBJECTS:
            raise ValueError(f"`k` must be in 1..{MOST_OBJECTS}, but is {k}.")
        if size < 16:
            raise ValueError(f"`size` must be at least 16 pixels, but is {size}: smaller shapes look alike.")
        if quadrants and (vary or (size - cross) % 2 or size - cross < 16):
            raise ValueError(f"`quadrants` needs tiles of at least 8 pixels, but has {(size - cross) / 2:g}.")
        if cross and not quadrants:
            raise ValueError("`cross` stands between the tiles of `quadrants`, of which there are none.")
        self.size, self.k, self.seed, self.texture, self.vary = size, k, seed, texture, vary
        self.quadrants, self.cross, self.tile = quadrants, cross, (size - cross) // 2
        self.scale = size - cross  # what the sizes of objects are shares of

    def batch(
        self,
        indices: np.ndarray,
        *,
        stream: int | None = None,
        split: str = "train",
        fields: Collection[str] = ("image", "label"),
        label: str = "pair",
    ) -> dict[str, Any]:
        """The scenes at `indices`, only the fields asked for.

        Args:
            indices: (B,) any non-negative integers.
            stream: of the split by default; another number gives other scenes under the same rules.
            split: train, val, test or comp.
            fields: of image (B, 3, Y, X) uint8, objects (B, k, 7) int64 (`OBJECT_COLUMNS`), label (B,) int64,
                instance (B, Y, X) uint8 (0 is background, i the i-th object), semantic (B, Y, X) uint8 (0 background,
                1 + pair), boxes (B, k, 4) int64 of what is visible (left, top, right, bottom; ends excluded; zeros
                where nothing is), amodal (B, k, 4) of whole objects, caption list[str], captions list[list[str]]: five
                sentences about the same object, the first of them `caption`.
            label: colour, shape, pair or quadrant (of the first object), or count (of objects, minus one).

        Raises:
            ValueError: an unknown split or field.
        """
        unknown = sorted(set(fields) - set(FIELDS))
        if unknown or split not in STREAMS:
            raise ValueError(
                f"Fields are {', '.join(FIELDS)} and splits {', '.join(STREAMS)}; not {unknown or split!r}."
            )
        indices = np.asarray(indices, dtype=np.int64)
        words = hash64(
            "shapes",
            VERSION,
            self.seed,
            STREAMS[split] if stream is None else stream,
            indices[:, None],
            np.arange(_ALL_OF_TILES if self.quadrants else _ALL),
        )
        objects = self._objects(words, comp=split == "comp")
        result: dict[str, Any] = {}
        if {"image", "instance", "semantic", "boxes"} & set(fields):
            ids = self._paint(objects)
            if "image" in fields:
                result["image"] = self._colours(ids, objects, words).transpose(0, 3, 1, 2)
            if "instance" in fields:
                result["instance"] = ids
            if "semantic" in fields:
                result["semantic"] = _look_up(np.pad(_pairs(objects) + 1, ((0, 0), (1, 0))).astype(np.uint8), ids)
            if "boxes" in fields:
                result["boxes"] = _boxes(ids, self.k)
        if "amodal" in fields:
            result["amodal"] = self._amodal(objects)
        if "objects" in fields:
            result["objects"] = objects
        if "label" in fields:
            result["label"] = labels(objects, label, size=self.size)
        if "caption" in fields:
            result["caption"] = self._sentences(objects, words, 0)
        if "captions" in fields:
            wordings = [self._sentences(objects, words, i) for i in range(WORDINGS)]
            result["captions"] = [list(scene) for scene in zip(*wordings, strict=True)]
        return result

    @staticmethod
    def _sentences(objects: np.ndarray, words: np.ndarray, wording: int) -> list[str]:
        chosen = words[:, _WORDS : _WORDS + CHOICES]
        if wording:
            chosen = hash64(chosen, "wording", wording)
        return captions(objects, chosen, COLOURS, SHAPES, SIZES)

    def _objects(self, words: np.ndarray, *, comp: bool) -> np.ndarray:
        """Return each scene's objects, (B, k, 7) by `OBJECT_COLUMNS`. Ranked hashes give distinct cells and pairs."""
        count, k = len(words), self.k
        pair_words = words[:, _PAIR : _PAIR + len(PAIR_NAMES)].copy()
        pair_words[:, HELD_OUT] = np.iinfo(np.uint64).max
        new = np.flatnonzero(HELD_OUT & _CIRCLES) if self.quadrants else np.flatnonzero(HELD_OUT)
        if self.quadrants:
            pair_words[:, _CIRCLES] = np.iinfo(np.uint64).max
        pairs = np.argsort(pair_words, axis=1, kind="stable")[:, :k]
        if self.quadrants:
            known = np.flatnonzero(_CIRCLES & ~HELD_OUT)
            pairs[:, 0] = known[below(words[:, _PAIR], len(known))]
        if comp:
            pairs[:, 0] = new[below(words[:, _NEW_PAIR], len(new))]
        sizes = below(words[:, _SIZE : _SIZE + k], len(SIZES))
        cells = np.argsort(words[:, _CELL : _CELL + 16], axis=1, kind="stable")[:, :k]
        radius = _radii(self.scale)[sizes]
        if self.quadrants:
            tiles = _tiles(words)[:, :k]
            x, y = (
                self._inside(tile, words[:, first : first + k], radius)
                for tile, first in ((tiles % 2, _X), (tiles // 2, _Y))
            )
        else:
            x, y = (
                self._centre(cell, words[:, first : first + k], radius)
                for cell, first in ((cells % 4, _X), (cells // 4, _Y))
            )
        number = below(words[:, _COUNT], k) + 1 if self.vary else np.full(count, k)
        depth = np.broadcast_to(np.arange(1, k + 1), (count, k))
        valid = depth <= number[:, None]
        return np.stack([pairs // len(SHAPES), pairs % len(SHAPES), sizes, x, y, depth, valid], axis=-1).astype(
            np.int64
        )

    def _centre(self, cell: np.ndarray, words: np.ndarray, radius: np.ndarray) -> np.ndarray:
        """Middle of the cell, up to a quarter cell aside, at least half a radius inside the image."""
        side = self.size / 4
        place = np.floor((cell + 0.25 + uniform(words) / 2) * side).astype(np.int64)
        half = (radius + 1) // 2
        return np.clip(place, half, self.size - 1 - half)

    def _inside(self, tile: np.ndarray, words: np.ndarray, radius: np.ndarray) -> np.ndarray:
        """Anywhere in the tile where all of the object is in it; the place within the tile is the same in each."""
        return tile * (self.tile + self.cross) + radius + below(words, self.tile - 2 * radius)

    def _paint(self, objects: np.ndarray) -> np.ndarray:
        """The map of object numbers (B, Y, X), painted far to near over the whole batch at once."""
        count, margin = len(objects), int(_radii(self.scale).max())
        canvas = np.zeros((count, self.size + 2 * margin, self.size + 2 * margin), dtype=np.uint8)
        atlas, span = _atlas(self.scale), np.arange(2 * margin + 1)
        batch = np.arange(count)[:, None, None]
        for slot in range(self.k):
            _, shape, size, x, y, _, valid = objects[:, slot].T
            rows, columns = (y[:, None] + span)[:, :, None], (x[:, None] + span)[:, None, :]
            inside = atlas[shape, size] & valid.astype(bool)[:, None, None]
            canvas[batch, rows, columns] = np.where(inside, np.uint8(slot + 1), canvas[batch, rows, columns])
        return canvas[:, margin : margin + self.size, margin : margin + self.size].copy()

    def _colours(self, ids: np.ndarray, objects: np.ndarray, words: np.ndarray) -> np.ndarray:
        """The picture (B, Y, X, 3) of a map: colour, times a noise that moves with its object."""
        grey = (40 + below(words[:, _BACKGROUND], 51)).astype(np.uint8)
        table = np.concatenate([np.repeat(grey[:, None, None], 3, axis=2), RGB[objects[:, :, 0]]], axis=1)
        picture = _look_up(table, ids)
        if not self.texture:
            return self._crossed(picture)
        start = below(words[:, _TEXTURE : _TEXTURE + self.k + 1], _NOISE_SIDE**2)
        start[:, 1:] -= _NOISE_SIDE * objects[:, :, 4] + objects[:, :, 3]
        if self.quadrants:  # the ground's noise moves with its tile
            tiles = _tiles(words)
            start[:, :1] = 0
            ground = below(words[:, _TILE_TEXTURE : _TILE_TEXTURE + 4], _NOISE_SIDE**2)
            ground -= (self.tile + self.cross) * (_NOISE_SIDE * (tiles // 2) + tiles % 2)
            start = np.concatenate([start, ground], axis=1)
            ids = np.where(ids == 0, self._slots(tiles), ids)
        place = _NOISE_SIDE * np.arange(self.size)[:, None] + np.arange(self.size)
        gain = _noise()[(_look_up(start.astype(np.int32), ids) + place.astype(np.int32)) & (_NOISE_SIDE**2 - 1)]
        return self._crossed(((picture.astype(np.uint16) * gain[..., None]) >> 8).astype(np.uint8))

    def _crossed(self, picture: np.ndarray) -> np.ndarray:
        """The cross laid over a picture: its arms up, left, right and down, red, green, blue and yellow."""
        if self.cross:
            low, high = self.tile, self.tile + self.cross
            picture[:, low:high, low:high] = 0
            for colour, (rows, columns) in enumerate(
                (
                    (slice(low), slice(low, high)),
                    (slice(low, high), slice(low)),
                    (slice(low, high), slice(high, None)),
                    (slice(high, None), slice(low, high)),
                )
            ):
                picture[:, rows, columns] = RGB[colour]
        return picture

    def _slots(self, tiles: np.ndarray) -> np.ndarray:
        """For each pixel (B, Y, X) k + 1 + the number of its tile, counted as the objects in them are."""
        owner = np.argsort(tiles, axis=1).reshape(-1, 2, 2) + self.k + 1
        half = (np.arange(self.size) >= self.tile + self.cross).astype(np.int64)
        return owner[:, half[:, None], half].astype(np.uint8)

    def _amodal(self, objects: np.ndarray) -> np.ndarray:
        extent = _extents(self.scale)[objects[:, :, 1], objects[:, :, 2]]
        centre = objects[:, :, [3, 4, 3, 4]]
        return (centre + extent) * objects[:, :, 6:]


def labels(objects: np.ndarray, kind: str, *, size: int) -> np.ndarray:
    """The class of each scene (B,): colour, shape, pair or quadrant of the first object, or their number minus one."""
    choices = {"colour": objects[:, 0, 0], "shape": objects[:, 0, 1], "pair": _pairs(objects)[:, 0]}
    choices["count"] = objects[:, :, 6].sum(axis=1) - 1
    choices["quadrant"] = 2 * (2 * objects[:, 0, 4] >= size) + (2 * objects[:, 0, 3] >= size)
    if kind not in choices:
        raise ValueError(f"`label` must be one of {', '.join(choices)}, but is {kind!r}.")
    return choices[kind]


def _tiles(words: np.ndarray) -> np.ndarray:
    """The tile of each object (B, 4), row-major: all orders are equally likely, whatever the objects are."""
    return np.argsort(words[:, _TILE : _TILE + 4], axis=1, kind="stable")


def _pairs(objects: np.ndarray) -> np.ndarray:
    return objects[:, :, 0] * len(SHAPES) + objects[:, :, 1]


def _look_up(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """table (B, k + 1, ...) read at ids (B, Y, X): one flat gather."""
    flat = ids + (np.arange(len(ids)) * table.shape[1])[:, None, None]
    return table.reshape(-1, *table.shape[2:])[flat]


def _boxes(ids: np.ndarray, k: int) -> np.ndarray:
    boxes = np.zeros((len(ids), k, 4), dtype=np.int64)
    for slot in range(k):
        mask = ids == slot + 1
        for axis, (low, high) in ((1, (0, 2)), (2, (1, 3))):
            line = mask.any(axis=axis)
            seen = line.any(axis=1)
            boxes[:, slot, low] = line.argmax(axis=1)
            boxes[:, slot, high] = np.where(seen, line.shape[1] - line[:, ::-1].argmax(axis=1), 0)
    return boxes


@lru_cache
def _radii(size: int) -> np.ndarray:
    return np.array([max(2, round(r * size)) for r in RADII])


@lru_cache
def _atlas(size: int) -> np.ndarray:
    """Silhouettes [shape, size, W, W], centred, W = 2 * largest radius + 1."""
    most = int(_radii(size).max())
    dy, dx = np.mgrid[-most : most + 1, -most : most + 1]
    far, square = np.hypot(dx, dy), np.maximum(abs(dx), abs(dy))
    atlas = []
    for r in _radii(size):
        bar = max(1, round(r / 3))
        atlas.append(
            [
                far <= r + 0.25,
                square <= round(0.85 * r),
                (abs(dx) <= (dy + r) / 2) & (abs(dy) <= r),
                abs(dx) + abs(dy) <= r,
                ((abs(dx) < bar) | (abs(dy) < bar)) & (square <= r),
                (far <= r + 0.25) & (far > r / 2),
            ]
        )
    return np.array(atlas).transpose(1, 0, 2, 3)


@lru_cache
def _extents(size: int) -> np.ndarray:
    """Box of each silhouette around its centre [shape, size, 4]: left, top, right, bottom, ends excluded."""
    atlas, most = _atlas(size), int(_radii(size).max())
    boxes = np.zeros((*atlas.shape[:2], 4), dtype=np.int64)
    for place in np.ndindex(*atlas.shape[:2]):
        rows, columns = np.nonzero(atlas[place])
        boxes[place] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes - most


@lru_cache
def _noise() -> np.ndarray:
    """Gains 0.66..1 as fractions of 256, a table of 128 x 128."""
    return (169 + below(hash64("shapes noise", np.arange(_NOISE_SIDE**2)), 88)).astype(np.uint16)
