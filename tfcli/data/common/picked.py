"""Row selection for columns of every kind: lists, arrays, and columns that load rows on demand."""

from __future__ import annotations

from typing import Any

import numpy as np


class Picked:
    """A column of selected rows of another column, loaded on demand.

    It is also a reference into another table: questions about images refer to the row of their image.

    Args:
        column: the other column; its `take` loads rows.
        rows: (N,) the selected rows.
    """

    def __init__(self, column: Any, rows: np.ndarray):
        self.column, self.rows = column, np.asarray(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: np.ndarray) -> Any:
        """Return the contents of some rows."""
        return self.column.take(self.rows[rows])


def unpicked(column: Any) -> tuple[Any, np.ndarray]:
    """Return the underlying column and the selected rows (N,); all rows where the column is not `Picked`."""
    return (column.column, column.rows) if isinstance(column, Picked) else (column, np.arange(len(column)))


def pick(column: Any, rows: np.ndarray) -> Any:
    """Return some rows of a column: a list of a list, an array of an array, else a `Picked` that loads them later."""
    if isinstance(column, list):
        return [column[row] for row in rows]
    if isinstance(column, np.ndarray):
        return column[rows]
    inner, which = unpicked(column)
    return Picked(inner, which[rows])


def taken(column: Any) -> list[Any]:
    """Return all rows of a column as a list."""
    if isinstance(column, list | np.ndarray):
        return list(column)
    return list(column.take(np.arange(len(column))))
