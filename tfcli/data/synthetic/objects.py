"""Objects of synthetic scenes: their colours, shapes, sizes and positions as functions of random words.

A scene has up to four objects on a 4 x 4 grid, each with one of 8 colours, 6 shapes and 3 sizes; no two objects share
both colour and shape.

Twelve of the 48 pairs (colour, shape), those with (colour + shape) mod 4 = 3, never occur in `train`, `val` and `test`.
In `comp` the first object always has one of them: both attributes are known, but their combination is new.

With `quadrants` the image has four tiles with at most one object each, and the first object is the only circle. The
contents of a tile do not depend on its position, so that the bag of patches (of any size that divides a tile) does not
determine where the circle is: a model needs positions. A `cross` between the tiles, with arms of four colours, is the
same in every image and gives landmarks for relative positions.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import get_args

import numpy as np

from tfcli.data.common.counter_rng import below, uniform
from tfcli.data.synthetic.shifts import SHRUNK, Shift
from tfcli.data.synthetic.sprites import radii

COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "white")
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
SIZES = ("small", "medium", "large")
MOST_OBJECTS = 4
PAIR_NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
HELD_OUT = np.array([(c + s) % 4 == 3 for c in range(len(COLOURS)) for s in range(len(SHAPES))])
QUADRANTS = ("top left", "top right", "bottom left", "bottom right")
OBJECT_COLUMNS = ("colour", "shape", "size", "x", "y", "depth", "valid")
COLOUR, SHAPE, SIZE, X, Y, DEPTH, VALID = range(7)

_CIRCLES = np.arange(len(PAIR_NAMES)) % len(SHAPES) == SHAPES.index("circle")

# Position of each random choice of a scene among its random words.
_CELL, PAIR_WORDS, _SIZE, _X, _Y = 0, 16, 64, 68, 72
TEXTURE_WORDS, BACKGROUND_WORD, _COUNT, _NEW_PAIR, CAPTION_WORDS, ALL_WORDS = 76, 81, 82, 83, 84, 96
_TILE, TILE_TEXTURE_WORDS, ALL_WORDS_OF_TILES = 96, 100, 104


@dataclass(frozen=True)
class World:
    """The rules that generate scenes.

    Args:
        size: side of the image, in pixels (32, 48, 64 or 96 are the usual ones; at least 16).
        k: number of objects in a scene, 1..4; with `vary` the largest number.
        seed: seed of all random words.
        texture: noise on objects (which moves with them) and background; without it colours are flat.
        vary: draw the number of objects from 1..k.
        quadrants: four tiles with at most one object each, the first of them the only circle.
        cross: width of the cross between the tiles, in pixels; 0: none.
        shift: change of the images in comparison with training; see `shifts`.
        tag_noise: fraction of regions whose tag names a wrong object.
        segments, frames: number of segments in a clip, and of frames in a segment (at least 2, to show a change).
        hold_relations: whether sentences omit the relations that are held out for a pair; see `relations`.

    Raises:
        ValueError: a size or number out of range.
    """

    size: int = 32
    _: KW_ONLY
    k: int = 1
    seed: int = 0
    texture: bool = True
    vary: bool = False
    quadrants: bool = False
    cross: int = 0
    shift: Shift = "none"
    tag_noise: float = 0.0
    segments: int = 4
    frames: int = 4
    hold_relations: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MOST_OBJECTS:
            raise ValueError(f"`k` must be in 1..{MOST_OBJECTS}, but is {self.k}.")
        if self.size < 16:
            raise ValueError(f"`size` must be at least 16 pixels, but is {self.size}: smaller shapes look alike.")
        tiled = self.size - self.cross
        if self.quadrants and (self.vary or tiled % 2 or tiled < 16):
            raise ValueError(f"`quadrants` needs tiles of at least 8 pixels, but has {tiled / 2:g}.")
        if self.cross and not self.quadrants:
            raise ValueError("`cross` stands between the tiles of `quadrants`, of which there are none.")
        if self.shift not in get_args(Shift):
            raise ValueError(f"`shift` must be one of {', '.join(get_args(Shift))}, but is {self.shift!r}.")
        if not 0 <= self.tag_noise <= 1:
            raise ValueError(f"`tag_noise` must be in 0..1, but is {self.tag_noise}.")
        if self.segments < 1 or self.frames < 2:
            raise ValueError(
                f"A clip needs at least 1 segment of 2 frames, but has {self.segments} segments of {self.frames}."
            )

    @property
    def tile(self) -> int:
        """Side of a quadrant, in pixels."""
        return (self.size - self.cross) // 2

    @property
    def scale(self) -> int:
        """Reference length for the sizes of objects, in pixels."""
        return round((self.size - self.cross) * (SHRUNK if self.shift == "scale" else 1))


def draw_objects(words: np.ndarray, world: World, *, new: bool, fewest: int = 1) -> np.ndarray:
    """Return the objects of each scene, (B, k, 7) with the columns `OBJECT_COLUMNS`.

    Cells and pairs are distinct because they are ranked by random words.

    Args:
        words: (B, `ALL_WORDS` or more) random words of each scene.
        world: the rules of the scenes.
        new: whether the first object has a held-out pair.
        fewest: smallest number of objects, where the number varies.
    """
    k, pairs = world.k, _pairs(words, world, new=new)
    sizes = below(words[:, _SIZE : _SIZE + k], len(SIZES))
    radius = radii(world.scale)[sizes]
    if world.quadrants:
        tile = tiles(words)[:, :k]
        x, y = (
            _inside(tile, words[:, first : first + k], radius, world)
            for tile, first in ((tile % 2, _X), (tile // 2, _Y))
        )
    else:
        cells = np.argsort(words[:, _CELL : _CELL + 16], axis=1, kind="stable")[:, :k]
        x, y = (
            _centre(cell, words[:, first : first + k], radius, world)
            for cell, first in ((cells % 4, _X), (cells // 4, _Y))
        )
    number = below(words[:, _COUNT], k + 1 - fewest) + fewest if world.vary else np.full(len(words), k)
    depth = np.broadcast_to(np.arange(1, k + 1), (len(words), k))
    valid = depth <= number[:, None]
    return np.stack([pairs // len(SHAPES), pairs % len(SHAPES), sizes, x, y, depth, valid], axis=-1).astype(np.int64)


def _pairs(words: np.ndarray, world: World, *, new: bool) -> np.ndarray:
    pair_words = words[:, PAIR_WORDS : PAIR_WORDS + len(PAIR_NAMES)].copy()
    pair_words[:, HELD_OUT] = np.iinfo(np.uint64).max
    if world.quadrants:
        pair_words[:, _CIRCLES] = np.iinfo(np.uint64).max
    pairs = np.argsort(pair_words, axis=1, kind="stable")[:, : world.k]
    if world.quadrants:
        known = np.flatnonzero(_CIRCLES & ~HELD_OUT)
        pairs[:, 0] = known[below(words[:, PAIR_WORDS], len(known))]
    if new:
        held = np.flatnonzero(HELD_OUT & _CIRCLES) if world.quadrants else np.flatnonzero(HELD_OUT)
        pairs[:, 0] = held[below(words[:, _NEW_PAIR], len(held))]
    return pairs


def _centre(cell: np.ndarray, words: np.ndarray, radius: np.ndarray, world: World) -> np.ndarray:
    """Return positions up to a quarter cell from the centre of a cell, at least half a radius inside the image."""
    place = np.floor((cell + 0.25 + uniform(words) / 2) * (world.size / 4)).astype(np.int64)
    return clamped(place, radius, world)


def clamped(place: np.ndarray, radius: np.ndarray, world: World) -> np.ndarray:
    """Return places moved at least half a radius inside the image."""
    half = (radius + 1) // 2
    return np.clip(place, half, world.size - 1 - half)


def _inside(tile: np.ndarray, words: np.ndarray, radius: np.ndarray, world: World) -> np.ndarray:
    """Return positions at which the whole object is inside its tile; the offset does not depend on the tile."""
    return tile * (world.tile + world.cross) + radius + below(words, world.tile - 2 * radius)


def tiles(words: np.ndarray) -> np.ndarray:
    """Return the tile of each object (B, 4) in row-major order: a random permutation, independent of the objects."""
    return np.argsort(words[:, _TILE : _TILE + 4], axis=1, kind="stable")


def pair_numbers(objects: np.ndarray) -> np.ndarray:
    """Return the index in `PAIR_NAMES` of each object, (B, k)."""
    return objects[:, :, COLOUR] * len(SHAPES) + objects[:, :, SHAPE]


def mistaken(pairs: np.ndarray, words: np.ndarray, fraction: float) -> np.ndarray:
    """Return pair indices (B, k) in which a random fraction is replaced by wrong pairs that are not held out.

    Args:
        pairs: (B, k) correct indices in `PAIR_NAMES`.
        words: (B, k, 2) random words.
        fraction: fraction of wrong pairs.
    """
    known = np.flatnonzero(~HELD_OUT)
    others = known[below(words[..., 1], len(known) - 1)]
    others = np.where(others == pairs, known[-1], others)
    return np.where(uniform(words[..., 0]) < fraction, others, pairs)


def labels(objects: np.ndarray, kind: str, *, size: int) -> np.ndarray:
    """Return the class of each scene (B,): an attribute of the first object, or the number of objects minus one.

    Args:
        objects: (B, k, 7).
        kind: colour, shape, pair, quadrant or count.
        size: side of the image, in pixels.

    Raises:
        ValueError: another kind.
    """
    first = objects[:, 0]
    choices = {"colour": first[:, COLOUR], "shape": first[:, SHAPE], "pair": pair_numbers(objects)[:, 0]}
    choices["count"] = objects[:, :, VALID].sum(axis=1) - 1
    choices["quadrant"] = 2 * (2 * first[:, Y] >= size) + (2 * first[:, X] >= size)
    if kind not in choices:
        raise ValueError(f"`label` must be one of {', '.join(choices)}, but is {kind!r}.")
    return choices[kind]
