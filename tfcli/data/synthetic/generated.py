"""Source of synthetic texts: each row is a function of seed and index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfcli.bounds import Count, Natural
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.errors import ConfigError

Maker = Callable[[int, str, np.ndarray], Columns]
"""Function from seed, name of the split and row indices (N,) to the rows of the split."""


class Generated:
    """Source of rows that a function generates; training rows that equal a row of another split are omitted.

    Args:
        make: generates rows; see `Maker`.
        splits: number of rows of each split.
        seed: seed of the data set, independent of the seed of the run.
        classes: names of labels or tags.

    Raises:
        ConfigError: a number of rows is below 1.
    """

    def __init__(self, make: Maker, *, splits: Mapping[str, Count], seed: Natural = 0, classes: Sequence[str] = ()):
        for split, count in splits.items():
            if count < 1:
                raise ConfigError(f"`data.num_{split}` must be at least 1, but is {count}.")
        self.make, self.splits, self.seed, self.classes = make, dict(splits), seed, list(classes)

    def locate(self, request: Request) -> str:
        return "generated"

    def load(self, request: Request) -> LoadedTables:
        """Generate all rows."""
        splits = {split: self.make(self.seed, split, np.arange(count)) for split, count in self.splits.items()}
        train, names = splits["train"], [name for name in splits["train"] if name != "id"]
        held = {row for split, rows in splits.items() if split != "train" for row in _row_texts(rows, names)}
        kept = [index for index, row in enumerate(_row_texts(train, names)) if row not in held]
        splits["train"] = {name: [cells[row] for row in kept] for name, cells in train.items()}
        column = next((name for name in ("label", "tags") if any(name in rows for rows in splits.values())), None)
        return LoadedTables(splits, {column: self.classes} if column and self.classes else {})


def _row_texts(rows: Columns, names: Sequence[str]) -> list[str]:
    """Return each row as one string, for comparison."""
    return [str(cells) for cells in zip(*(rows[name] for name in names), strict=True)]
