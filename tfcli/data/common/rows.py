"""Tables of named columns: their height, selections of rows, and padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Columns = dict[str, Any]
"""A table of named columns of equal length: lists, arrays, or objects whose `take` loads rows. The names mean:


    text                          running text (a document a row, line breaks kept), or a sentence
    text pair                     two sentences
    label                         class of a row, an index into the names that `classes` has for the column
    score                         a number instead of a class
    group                         the part of its split that a row is of, an index into `groups`
    source target                 a sentence and its translation
    words tags                    the words of a sentence (a list) and the index of each one's tag (a list)
    id question context answers   answers: a list of {"text", "start"}, start counts characters; empty: no answer
    context choices label         choices: a list of texts, label the right one
    image                         images by `take`; as they are served, `tfcli.data.images.imageset.Images`
    image label                   an image and its class
    image caption                 an image and texts of it, at least one (a list)
    image question answer         answer: a class, as label
    image mask                    mask: the class of each pixel, (Y, X) uint8; 255 is not judged
    image boxes                   boxes: (K, 4) left, top, right, bottom in pixels; label of the image or of each
    image right disparity         a rectified pair; disparity: (Y, X) in pixels, -1 where it is not known; also occluded
    clip                          frames (T, Y, X, 3) uint8
    mesh                          `tfcli.data.sources.meshes.Mesh`

A column that points into another table is a `Picked`: the questions of one image share it.
"""


def height(rows: Columns) -> int:
    """Return the number of rows."""
    return len(next(iter(rows.values()), []))


def padded(rows: Sequence[np.ndarray], fill: int | bool) -> np.ndarray:
    """Return rows of different lengths as one array, padded on the right with `fill`."""
    table = np.full((len(rows), max(1, max(map(len, rows)))), fill, dtype=bool if isinstance(fill, bool) else np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


def picked(rows: Columns, which: np.ndarray) -> Columns:
    """Return a table of the selected rows."""
    return {name: pick(column, which) for name, column in rows.items()}


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
