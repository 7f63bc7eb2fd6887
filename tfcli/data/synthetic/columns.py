"""Scenes of a synthetic world as the rows of a table whose cells are generated on demand."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np

from tfcli.data.synthetic.scenes import FIELDS, Scenes
from tfcli.data.synthetic.shapes import ShapesWorld


class SceneTable:
    """A table of scenes with consecutive indices; columns that are read for the same rows share their scenes.

    Args:
        world: the world of the scenes.
        split: one of `SPLITS`.
        count: number of scenes.
        per_scene: number of rows per scene, which differ in question, expression and statement; row r shows scene
            r // per_scene.
        label: colour, shape, pair or quadrant (of the first object), or count (of objects, minus one).
    """

    def __init__(self, world: ShapesWorld, *, split: str, count: int, per_scene: int = 1, label: str = "pair"):
        self.world, self.split, self.count, self.per_scene, self.label = world, split, count, per_scene, label
        self._latest: tuple[bytes, Scenes] | None = None

    def __len__(self) -> int:
        return self.count * self.per_scene

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_latest": None}

    def scene_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the scene of each row, (B,)."""
        return np.asarray(rows) // self.per_scene

    def scenes(self, rows: np.ndarray) -> Scenes:
        """Return the scenes of some rows."""
        rows = np.asarray(rows, dtype=np.int64)
        latest, key = self._latest, rows.tobytes()
        if latest is not None and latest[0] == key:
            return latest[1]
        number = rows % self.per_scene
        found = self.world.scenes(self.scene_of(rows), split=self.split, label=self.label, number=number)
        self._latest = key, found
        return found

    def column(self, name: str) -> SceneColumn:
        """Return a column by its name, one of `GIVEN`.

        Raises:
            ValueError: there is no such column.
        """
        if name not in GIVEN:
            raise ValueError(f"Columns of scenes are {', '.join(GIVEN)}; not {name}.")
        kind = SceneCaptions if name == "caption" else ScenePictures if name in PICTURES else SceneColumn
        return kind(self, MADE_FROM.get(name, name))


MADE_FROM = {
    "mask": "semantic",
    "object_tags": "tags",
    "question": "question.text",
    "program": "question.program",
    "expression": "expression.text",
    "statement": "statement.text",
}
"""Columns with another name in `Scenes`, or that are an attribute of one of its properties."""
PICTURES = ("image", "right", "second", "regions", "clip", "twin")
"""Columns of images, whose channels are the last axis in tables, as in images from files."""
GIVEN = tuple(name for name in (*FIELDS, *MADE_FROM) if name not in ("semantic", "captions", "tags"))
"""All columns that a table of scenes can have."""


class SceneColumn:
    """One column of a table of scenes.

    Args:
        table: the table.
        name: name of a property of `Scenes`, optionally followed by a dot and an attribute of its items.
    """

    def __init__(self, table: SceneTable, name: str):
        self.table, (self.name, _, self.part) = table, name.partition(".")

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: np.ndarray) -> Any:
        """Return the cells of B rows as an array (B, ...) or a list."""
        found = getattr(self.table.scenes(rows), self.name)
        return list(map(attrgetter(self.part), found)) if self.part else found


class ScenePictures(SceneColumn):
    """A column of pictures, regions or clips: (B, ..., Y, X, 3) uint8."""

    def __init__(self, table: SceneTable, name: str):
        super().__init__(table, name)
        self.size = (table.world.size, table.world.size)

    def take(self, rows: np.ndarray) -> np.ndarray:
        return np.moveaxis(super().take(rows), -3, -1)


class SceneCaptions(SceneColumn):
    """The captions of each scene: five for training, one otherwise."""

    def take(self, rows: np.ndarray) -> list[list[str]]:
        scenes = self.table.scenes(rows)
        return scenes.captions if self.table.split == "train" else [[text] for text in scenes.caption]
