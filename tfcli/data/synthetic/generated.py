"""Sets of text that are made, not read: each row a function of seed and index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfcli.bounds import Count, Natural
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.errors import ConfigError

Maker = Callable[[int, str, np.ndarray], Columns]
"""Rows of a split, from the seed, the split's name and their indices (N,)."""


class Generated:
    """Rows of a maker. What a row of another split says as well is left out of training.

    Args:
        make: as `Maker`.
        splits: how many rows each split has.
        seed: of the set, not of the run.
        classes: names of labels or tags.
    """

    def __init__(self, make: Maker, *, splits: Mapping[str, Count], seed: Natural = 0, classes: Sequence[str] = ()):
        for split, count in splits.items():
            if count < 1:
                raise ConfigError(f"`data.num_{split}` must be at least 1, but is {count}.")
        self.make, self.splits, self.seed, self.classes = make, dict(splits), seed, list(classes)

    def locate(self, request: Request) -> str:
        return "generated"

    def load(self, request: Request) -> LoadedTables:
        """Make all rows."""
        splits = {split: self.make(self.seed, split, np.arange(count)) for split, count in self.splits.items()}
        train, names = splits["train"], [name for name in splits["train"] if name != "id"]
        held = {row for split, rows in splits.items() if split != "train" for row in _told(rows, names)}
        kept = [index for index, row in enumerate(_told(train, names)) if row not in held]
        splits["train"] = {name: [cells[row] for row in kept] for name, cells in train.items()}
        column = next((name for name in ("label", "tags") if any(name in rows for rows in splits.values())), None)
        return LoadedTables(splits, {column: self.classes} if column and self.classes else {})


def _told(rows: Columns, names: Sequence[str]) -> list[str]:
    """Return the text of each row."""
    return [str(cells) for cells in zip(*(rows[name] for name in names), strict=True)]
