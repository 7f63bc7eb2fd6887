"""Some rows of a column."""

from __future__ import annotations

from typing import Any

import numpy as np


class Picked:
    """A column that holds some rows of another one, gathered when they are taken.

    Args:
        column: gathers its own rows by `take`.
        rows: (N,) which of them.
    """

    def __init__(self, column: Any, rows: np.ndarray):
        self.column, self.rows = column, rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: np.ndarray) -> Any:
        """Return the contents of some rows."""
        return self.column.take(self.rows[rows])
