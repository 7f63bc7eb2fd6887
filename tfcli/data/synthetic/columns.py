"""Scenes of a world as the rows of a table, whose columns are made when rows of them are taken."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from tfcli.data.synthetic.scenes import FIELDS, Scenes
from tfcli.data.synthetic.shapes import ShapesWorld


class SceneTable:
    """Scenes under consecutive indices. Columns that are taken for the same rows in turn share what they are made from.

    Args:
        world: where they come from.
        split: train, val, test or comp.
        count: how many scenes there are.
        per_scene: rows of each scene, which differ in their question, expression and statement; row r is of scene
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
        """Return the scene that each row is of, (B,)."""
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

    def columns(self, names: Sequence[str]) -> dict[str, SceneColumn]:
        """Return columns by name: properties of `Scenes`, or a part of what they hold: `question.text`.

        Raises:
            ValueError: there is no such column.
        """
        return {name: SceneColumn(self, name) for name in names}


class SceneColumn:
    """One column of a table of scenes.

    Args:
        table: that it is of.
        name: of a property of `Scenes`, then, after a point, of an attribute of what it holds.

    Raises:
        ValueError: there is no such property.
    """

    def __init__(self, table: SceneTable, name: str):
        self.table, (self.name, _, self.part) = table, name.partition(".")
        if self.name not in FIELDS:
            raise ValueError(f"Columns of scenes are {', '.join(FIELDS)}; not {self.name}.")

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: np.ndarray) -> Any:
        """Return an array (B, ...) or a list of B, for some rows."""
        found = getattr(self.table.scenes(rows), self.name)
        return list(map(attrgetter(self.part), found)) if self.part else found
