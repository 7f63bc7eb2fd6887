"""The procedural world of coloured shapes: a sample is a pure function of (seed, stream, index).

See `objects` for the contents of a scene, `rendering` for its image, and `scenes` for its columns.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from tfcli.data.synthetic.objects import World
from tfcli.data.synthetic.scenes import FIELDS, Scenes
from tfcli.data.synthetic.splits import SPLITS

FEWEST = {"relation": 2, "count": 2, "length": 3}
"""Smallest `k` for each kind of split with something new."""


class ShapesWorld(World):
    """Generator of batches of scenes in plain numpy; the arguments are those of `World`."""

    def scenes(
        self,
        indices: np.ndarray,
        *,
        stream: int | None = None,
        split: str = "train",
        label: str = "pair",
        number: Any = 0,
    ) -> Scenes:
        """Return the scenes at `indices`, whose columns are computed on demand.

        Args:
            indices: (B,) any non-negative integers.
            stream: number of the random stream, that of the split by default; another one gives other scenes.
            split: one of `SPLITS`.
            label: colour, shape, pair or quadrant (of the first object), or count (of objects, minus one).
            number: which question, expression and statement of each scene; an integer, or (B,) of them.

        Raises:
            ValueError: an unknown split, or one that this world has too few objects for.
        """
        if split not in SPLITS:
            raise ValueError(f"Splits are {', '.join(SPLITS)}; not {split!r}.")
        rules, world = SPLITS[split], self
        if self.k < FEWEST.get(rules.new, 1):
            raise ValueError(f"Scenes of `{split}` need `k` of at least {FEWEST[rules.new]}, but it is {self.k}.")
        if rules.new in ("count", "length"):
            world = replace(world, vary=False)
        if rules.shift != "none":
            world = replace(world, shift=rules.shift)
        if stream is not None:
            rules = replace(rules, stream=stream)
        return Scenes(world, np.asarray(indices, dtype=np.int64), rules, label, number)

    def batch(
        self,
        indices: np.ndarray,
        *,
        stream: int | None = None,
        split: str = "train",
        fields: Collection[str] = ("image", "label"),
        label: str = "pair",
        number: Any = 0,
    ) -> dict[str, Any]:
        """Return the columns of `Scenes` named in `fields` of the scenes at `indices`; see `scenes`.

        Raises:
            ValueError: an unknown split or field.
        """
        unknown = sorted(set(fields) - set(FIELDS))
        if unknown:
            raise ValueError(f"Fields are {', '.join(FIELDS)}; not {', '.join(unknown)}.")
        scenes = self.scenes(indices, stream=stream, split=split, label=label, number=number)
        return {name: getattr(scenes, name) for name in fields}
