"""Rendering of synthetic scenes.

A scene is painted once as a map of object numbers, and image, masks, boxes and regions are computed from this map. They
are therefore exact and consistent by construction.
"""

from __future__ import annotations

import numpy as np

from tfcli.data.common.counter_rng import below, hash64
from tfcli.data.synthetic.objects import (
    BACKGROUND_WORD,
    COLOUR,
    SHAPE,
    SIZE,
    TEXTURE_WORDS,
    TILE_TEXTURE_WORDS,
    VALID,
    World,
    X,
    Y,
)
from tfcli.data.synthetic.shifts import blurred, noisy, outlines, stripes
from tfcli.data.synthetic.sprites import NOISE_SIDE, atlas, extents, noise, radii

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
"""RGB values of `COLOURS`."""


def paint(objects: np.ndarray, world: World, *, beyond: int = 0) -> np.ndarray:
    """Return the map of object numbers (B, Y, X) uint8, painted far to near: 0 is background, i the i-th object.

    Args:
        objects: (B, k, 7).
        world: the rules of the scenes.
        beyond: how far a centre may lie outside the image, in pixels.
    """
    sprites, span = atlas(world.scale), np.arange(2 * int(radii(world.scale).max()) + 1)
    margin = len(span) // 2 + beyond
    side = world.size + 2 * margin
    painted = np.zeros((len(objects), side, side), dtype=np.uint8)
    batch = np.arange(len(objects))[:, None, None]
    for slot in range(objects.shape[1]):
        shape, size, x, y, valid = objects[:, slot, [SHAPE, SIZE, X, Y, VALID]].T
        rows, columns = (y[:, None] + span + beyond)[:, :, None], (x[:, None] + span + beyond)[:, None, :]
        inside = sprites[shape, size] & valid.astype(bool)[:, None, None]
        painted[batch, rows, columns] = np.where(inside, np.uint8(slot + 1), painted[batch, rows, columns])
    return painted[:, margin : margin + world.size, margin : margin + world.size].copy()


def coloured(
    ids: np.ndarray,
    objects: np.ndarray,
    words: np.ndarray,
    world: World,
    *,
    tiles: np.ndarray | None = None,
) -> np.ndarray:
    """Return the images (B, Y, X, 3) uint8 of maps: colours multiplied by a noise that moves with its object.

    Args:
        ids: (B, Y, X) the maps of object numbers.
        objects: (B, k, 7).
        words: (B, ...) random words of each scene.
        world: the rules of the scenes.
        tiles: (B, 4) the tile of each object, for quadrants.
    """
    if world.shift == "outline":
        ids = outlines(ids)
    grey = (40 + below(words[:, BACKGROUND_WORD], 51)).astype(np.uint8)
    ground = np.repeat(grey[:, None, None], 3, axis=2)
    if world.shift == "background":
        ground = RGB[below(hash64(words[:, BACKGROUND_WORD], "shapes ground"), len(RGB))][:, None] // 2
    picture = look_up(np.concatenate([ground, RGB[objects[:, :, COLOUR]]], axis=1), ids)
    if world.texture:
        gain = _gains(ids, objects, words, world, tiles)
        picture = ((picture.astype(np.uint16) * gain[..., None]) >> 8).astype(np.uint8)
    picture = _crossed(picture, world)
    if world.shift == "noise":
        return noisy(picture, hash64(words[:, BACKGROUND_WORD], "shapes noise of pixels"))
    return blurred(picture) if world.shift == "blur" else picture


def _gains(
    ids: np.ndarray, objects: np.ndarray, words: np.ndarray, world: World, tiles: np.ndarray | None
) -> np.ndarray:
    """Return the gain of each pixel (B, Y, X) uint16 as fractions of 256; see `coloured`."""
    k = objects.shape[1]
    start = below(words[:, TEXTURE_WORDS : TEXTURE_WORDS + k + 1], NOISE_SIDE**2)
    start[:, 1:] -= NOISE_SIDE * objects[:, :, Y] + objects[:, :, X]
    if tiles is not None:  # the ground's noise moves with its tile
        start[:, :1] = 0
        ground = below(words[:, TILE_TEXTURE_WORDS : TILE_TEXTURE_WORDS + 4], NOISE_SIDE**2)
        ground -= (world.tile + world.cross) * (NOISE_SIDE * (tiles // 2) + tiles % 2)
        start = np.concatenate([start, ground], axis=1)
        ids = np.where(ids == 0, _ground(tiles, world, k), ids)
    place = NOISE_SIDE * np.arange(world.size)[:, None] + np.arange(world.size)
    table = stripes() if world.shift == "texture" else noise()
    return table[(look_up(start.astype(np.int32), ids) + place.astype(np.int32)) & (NOISE_SIDE**2 - 1)]


def _crossed(picture: np.ndarray, world: World) -> np.ndarray:
    """Draw the cross on images, with red, green, blue and yellow arms up, left, right and down."""
    if world.cross:
        low, high = world.tile, world.tile + world.cross
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


def _ground(tiles: np.ndarray, world: World, k: int) -> np.ndarray:
    """Return k + 1 + the slot of the object of each pixel's tile, (B, Y, X)."""
    owner = np.argsort(tiles, axis=1).reshape(-1, 2, 2) + k + 1
    half = (np.arange(world.size) >= world.tile + world.cross).astype(np.int64)
    return owner[:, half[:, None], half].astype(np.uint8)


def look_up(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the entries of a table (B, k + 1, ...) at ids (B, Y, X), with one flat gather."""
    flat = ids + (np.arange(len(ids)) * table.shape[1])[:, None, None]
    return table.reshape(-1, *table.shape[2:])[flat]


def visible_boxes(ids: np.ndarray, k: int) -> np.ndarray:
    """Return boxes (B, k, 4) of the visible parts: left, top, right, bottom, ends excluded; zeros where none is."""
    boxes = np.zeros((len(ids), k, 4), dtype=np.int64)
    for slot in range(k):
        mask = ids == slot + 1
        for axis, (low, high) in ((1, (0, 2)), (2, (1, 3))):
            line = mask.any(axis=axis)
            seen = line.any(axis=1)
            boxes[:, slot, low] = line.argmax(axis=1)
            boxes[:, slot, high] = np.where(seen, line.shape[1] - line[:, ::-1].argmax(axis=1), 0)
    return boxes


def whole_boxes(objects: np.ndarray, world: World) -> np.ndarray:
    """Return boxes (B, k, 4) of whole objects, hidden parts and parts outside the image included."""
    extent = extents(world.scale)[objects[:, :, SHAPE], objects[:, :, SIZE]]
    return (objects[:, :, [X, Y, X, Y]] + extent) * objects[:, :, [VALID]]


def crops(image: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
    """Return crops of boxes, resized to (side, side) by nearest pixels; black where a box is empty.

    Args:
        image: (B, Y, X, 3) uint8.
        boxes: (B, k, 4): left, top, right, bottom; ends excluded.
        side: side of a crop, in pixels.

    Returns:
        (B, k, side, side, 3) uint8.
    """
    step = (np.arange(side) + 0.5) / side
    low, high = boxes[:, :, :2], boxes[:, :, 2:]
    places = (low[..., None] + step * (high - low)[..., None]).astype(np.int64)  # (B, k, 2, side)
    columns, rows = places[:, :, 0, None, :], places[:, :, 1, :, None]
    found = image[np.arange(len(image))[:, None, None, None], rows, columns]
    return found * np.all(high > low, axis=2)[:, :, None, None, None]


def coverings(ids: np.ndarray, objects: np.ndarray, visible: np.ndarray, world: World) -> list[list[tuple[int, int]]]:
    """Return the pairs of slots (near, far) of each scene where the near object visibly covers a part of the far one.

    Args:
        ids: (B, Y, X) the maps of object numbers.
        objects: (B, k, 7).
        visible: (B, k) bool, whether any pixel of an object is visible.
        world: the rules of the scenes.
    """
    found: list[list[tuple[int, int]]] = [[] for _ in ids]
    for far in range(objects.shape[1] - 1):
        whole = paint(objects[:, far : far + 1], world) > 0
        for near in range(far + 1, objects.shape[1]):
            over = (whole & (ids == near + 1)).any(axis=(1, 2)) & visible[:, far]
            for scene in np.flatnonzero(over):
                found[scene].append((near, far))
    return found
