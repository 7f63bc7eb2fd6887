"""Some rows of a column, and what columns of any kind have in common."""

from __future__ import annotations

from typing import Any

import numpy as np


class Picked:
    """A column that holds some rows of another one, gathered when they are taken.

    It also points into another table: questions hold the row of their image.

    Args:
        column: gathers its own rows by `take`.
        rows: (N,) which of them.
    """

    def __init__(self, column: Any, rows: np.ndarray):
        self.column, self.rows = column, np.asarray(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: np.ndarray) -> Any:
        """Return the contents of some rows."""
        return self.column.take(self.rows[rows])


def unpicked(column: Any) -> tuple[Any, np.ndarray]:
    """Return the column that another one picks rows of, and which (N,): of a whole column, all of them."""
    return (column.column, column.rows) if isinstance(column, Picked) else (column, np.arange(len(column)))


def pick(column: Any, rows: np.ndarray) -> Any:
    """Return a column of some of the rows: of a list or an array its like, of others one that gathers them later."""
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
