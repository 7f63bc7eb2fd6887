"""The procedural world of coloured shapes: a sample is a pure function of (seed, stream, index).

What a scene holds is said in `objects`, how it is drawn in `rendering`, and what there is to it in `scenes`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from tfcli.data.synthetic.objects import World
from tfcli.data.synthetic.scenes import FIELDS, Scenes

STREAMS = {"train": 0, "val": 1, "test": 2, "comp": 3}


class ShapesWorld(World):
    """Scenes of coloured shapes by address, a batch at a time, in plain numpy. Arguments are those of `World`."""

    def scenes(
        self,
        indices: np.ndarray,
        *,
        stream: int | None = None,
        split: str = "train",
        label: str = "pair",
        number: Any = 0,
    ) -> Scenes:
        """Return the scenes at `indices`, whose columns are made when they are asked for.

        Args:
            indices: (B,) any non-negative integers.
            stream: of the split by default; another number gives other scenes under the same rules.
            split: train, val, test or comp.
            label: colour, shape, pair or quadrant (of the first object), or count (of objects, minus one).
            number: which question, expression and statement of each scene; an integer, or (B,) of them.

        Raises:
            ValueError: an unknown split.
        """
        if split not in STREAMS:
            raise ValueError(f"Splits are {', '.join(STREAMS)}; not {split!r}.")
        stream = STREAMS[split] if stream is None else stream
        return Scenes(self, np.asarray(indices, dtype=np.int64), stream, split == "comp", label, number)

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
