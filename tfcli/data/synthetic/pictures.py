"""Images, masks, boxes, depth and clips of synthetic scenes, generated on demand and consistent with each other.

Every kind of column has random numbers of its own, so that a new column does not change the others.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

import numpy as np

from tfcli.data.common.counter_rng import hash64
from tfcli.data.synthetic import clips, stereo
from tfcli.data.synthetic.objects import (
    ALL_WORDS,
    ALL_WORDS_OF_TILES,
    PAIR_NAMES,
    World,
    draw_objects,
    labels,
    mistaken,
    pair_numbers,
    tiles,
)
from tfcli.data.synthetic.relations import with_held_out_relation
from tfcli.data.synthetic.rendering import coloured, crops, look_up, paint, visible_boxes, whole_boxes
from tfcli.data.synthetic.splits import Split

VERSION = 1  # part of every random address; increase it with any change of the scenes
CROP_SIDE = 8  # side of a region, in pixels


class Pictures:
    """The visual columns of a batch of scenes; each property without an underscore is a column, computed once.

    Args:
        world, indices, label, number: as in `ShapesWorld.scenes`.
        split: the split of the scenes.
        purpose: name of the random numbers of the scenes.
    """

    def __init__(
        self,
        world: World,
        indices: np.ndarray,
        split: Split,
        label: str,
        number: Any = 0,
        purpose: str = "shapes",
    ):
        self._world, self._indices, self._split = world, indices, split
        self._label, self._purpose = label, purpose
        self._number = np.broadcast_to(number, indices.shape)

    def _hashed(self, purpose: str, *more: np.ndarray) -> np.ndarray:
        """Return random words for a purpose, (B, ...); arrays in `more` are (B or 1, ...)."""
        shape = (-1,) + (1,) * (max(part.ndim for part in more) - 1)
        return hash64(purpose, VERSION, self._world.seed, self._split.stream, self._indices.reshape(shape), *more)

    @cached_property
    def _words(self) -> np.ndarray:
        return self._hashed(self._purpose, np.arange(ALL_WORDS_OF_TILES if self._world.quadrants else ALL_WORDS)[None])

    @cached_property
    def _tiles(self) -> np.ndarray | None:
        return tiles(self._words) if self._world.quadrants else None

    @cached_property
    def objects(self) -> np.ndarray:
        """Objects, (B, k, 7) int64 with the columns `OBJECT_COLUMNS`."""
        new = self._split.new
        if new == "relation":
            return with_held_out_relation(draw_objects(self._words, self._world, new=False, fewest=2), self._words)
        return draw_objects(self._words, self._world, new=new == "pair")

    @cached_property
    def label(self) -> np.ndarray:
        """Class of each scene, (B,) int64."""
        return labels(self.objects, self._label, size=self._world.size)

    # Pictures and masks

    @cached_property
    def image(self) -> np.ndarray:
        """Images, (B, 3, Y, X) uint8."""
        return self._picture(self.instance, self.objects).transpose(0, 3, 1, 2)

    def _picture(self, ids: np.ndarray, objects: np.ndarray) -> np.ndarray:
        world = self._world
        return coloured(ids, objects, self._words, world, tiles=self._tiles)

    @cached_property
    def instance(self) -> np.ndarray:
        """Instance masks, (B, Y, X) uint8: 0 is background, i the i-th object."""
        return paint(self.objects, self._world)

    @cached_property
    def semantic(self) -> np.ndarray:
        """Semantic masks, (B, Y, X) uint8: 0 is background, 1 + i the i-th pair of `PAIR_NAMES`."""
        return look_up(np.pad(pair_numbers(self.objects) + 1, ((0, 0), (1, 0))).astype(np.uint8), self.instance)

    @cached_property
    def boxes(self) -> np.ndarray:
        """Boxes of the visible parts, (B, k, 4) int64: left, top, right, bottom, ends excluded; zeros where none is."""
        return visible_boxes(self.instance, self._world.k)

    @cached_property
    def amodal(self) -> np.ndarray:
        """Boxes of whole objects, (B, k, 4) int64; zeros where there is no object."""
        return whole_boxes(self.objects, self._world)

    @cached_property
    def _visible(self) -> np.ndarray:
        """Whether any pixel of an object is visible, (B, k) bool."""
        return self.boxes[..., 2] > 0

    # Regions

    @cached_property
    def regions(self) -> np.ndarray:
        """Resized crops of the boxes, (B, k, 3, 8, 8) uint8; black where there is no object."""
        return crops(self.image.transpose(0, 2, 3, 1), self.boxes, CROP_SIDE).transpose(0, 1, 4, 2, 3)

    @cached_property
    def geometry(self) -> np.ndarray:
        """Boxes in fractions of the side, (B, k, 6) float32: left, top, right, bottom, width, height."""
        boxes = self.boxes / self._world.size
        return np.concatenate([boxes, boxes[..., 2:] - boxes[..., :2]], axis=-1).astype(np.float32)

    @cached_property
    def tags(self) -> list[list[str]]:
        """Name of each visible object (`red circle`), wrong for a fraction `tag_noise`; empty for hidden objects."""
        words = self._hashed("shapes tags", np.arange(2 * self._world.k)[None]).reshape(len(self._indices), -1, 2)
        numbers = mistaken(pair_numbers(self.objects), words, self._world.tag_noise)
        return [
            [PAIR_NAMES[number] if seen else "" for number, seen in zip(*scene, strict=True)]
            for scene in zip(numbers.tolist(), self._visible.tolist(), strict=True)
        ]

    # Depth and the second view

    @cached_property
    def _disparities(self) -> np.ndarray:
        if self._world.quadrants:
            raise ValueError("A scene of quadrants has no second view: its objects may not leave their tiles.")
        return stereo.object_disparities(self.objects, self._hashed("shapes disparity", np.arange(self._world.k)[None]))

    @cached_property
    def _right_objects(self) -> np.ndarray:
        return stereo.moved(self.objects, self._disparities)

    @cached_property
    def _right_instance(self) -> np.ndarray:
        return paint(self._right_objects, self._world, beyond=stereo.MOST_DISPARITY)

    @cached_property
    def right(self) -> np.ndarray:
        """Right view of a stereo pair, (B, 3, Y, X) uint8."""
        return self._picture(self._right_instance, self._right_objects).transpose(0, 3, 1, 2)

    @cached_property
    def disparity(self) -> np.ndarray:
        """Disparity of each pixel of the image, (B, Y, X) int64, in pixels; 0 on the background."""
        return stereo.disparity_map(self.instance, self._disparities)

    @cached_property
    def occluded(self) -> np.ndarray:
        """Pixels of the image that are occluded in the right view, (B, Y, X) bool."""
        return stereo.occlusions(self.instance, self._right_instance, self.disparity)

    @cached_property
    def depth(self) -> np.ndarray:
        """Depth, (B, Y, X) float32: 2 / disparity; 0 on the background, which is infinitely far."""
        return stereo.depth_map(self.disparity)

    # Another scene

    @cached_property
    def _second(self) -> Self:
        purpose = "shapes second"
        return type(self)(self._world, self._indices, self._split, self._label, self._number, purpose)

    @cached_property
    def second(self) -> np.ndarray:
        """Images of other scenes, (B, 3, Y, X) uint8, for statements about two pictures."""
        return self._second.image

    # Clips

    @cached_property
    def _script(self) -> clips.Script:
        world = self._world
        if world.quadrants:
            raise ValueError("A scene of quadrants has no clip: its objects may not leave their tiles.")
        words = self._hashed(
            "shapes clip", np.arange(world.segments)[None, :, None], np.arange(clips.WORDS)[None, None]
        )
        return clips.write_script(self.objects, words, world)

    @cached_property
    def clip(self) -> np.ndarray:
        """Clips, (B, T, 3, Y, X) uint8 with T = segments * frames; the first segment begins with the scene."""
        objects = self._script.frames(self._world.frames)
        count, length = objects.shape[:2]
        flat = objects.reshape(-1, *objects.shape[2:])
        words = np.repeat(self._words, length, axis=0)
        world = self._world
        frames = coloured(paint(flat, world), flat, words, world)
        return frames.reshape(count, length, *frames.shape[1:]).transpose(0, 1, 4, 2, 3)

    @cached_property
    def events(self) -> np.ndarray:
        """Events of the clips, (B, segments, 2) int64: index in `clips.EVENTS`, and slot of the object."""
        return self._script.events

    @cached_property
    def twin(self) -> np.ndarray:
        """The clips played backwards, (B, T, 3, Y, X) uint8."""
        return self.clip[:, ::-1]
