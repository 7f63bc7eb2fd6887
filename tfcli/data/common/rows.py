"""Rows of text as they are split, limited and laid side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfcli.data.common.counter_rng import hash64
from tfcli.data.common.picked import Picked, pick

Columns = dict[str, Any]
"""A table: columns of equal length: lists, arrays, or what gathers rows by `take`. Names say what they hold:

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

A column that points into another table is a `Picked`: the questions of one image share it.
"""


def height(rows: Columns) -> int:
    """Return the number of rows."""
    return len(next(iter(rows.values()), []))


def padded(rows: Sequence[np.ndarray], fill: int | bool) -> np.ndarray:
    """Rows of unequal lengths as one array, filled up behind."""
    table = np.full((len(rows), max(1, max(map(len, rows)))), fill, dtype=bool if isinstance(fill, bool) else np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table


def picked(rows: Columns, which: np.ndarray) -> Columns:
    """Some of the rows."""
    return {name: pick(column, which) for name, column in rows.items()}


def items(rows: Columns) -> np.ndarray:
    """Return a number (N,) for each row, the same for rows that share an item of another table: a question's image."""
    pointers = [column.rows for column in rows.values() if isinstance(column, Picked)]
    return min(pointers, key=lambda rows: len(np.unique(rows)), default=np.arange(height(rows)))


def limited(rows: Columns, number: int | None, *, seed: int) -> Columns:
    """At most so many rows, drawn by `seed`, in their own order; of rows that share an item, all of one before more."""
    if number is None or number >= height(rows):
        return rows
    words = hash64(seed, "limit", items(rows))
    return picked(rows, np.sort(np.argsort(words, kind="stable")[:number]))


FEW = 20
"""Rows below which running text is split inside its documents."""


def carved(rows: Columns, fraction: float, *, seed: int, to: str) -> tuple[Columns, Columns, str]:
    """Part a split: what stays, what is taken, and how it was done in words.

    Of many rows some are drawn, those with the same context or the same item of another table together; of a few
    documents each gives its end, from the beginning of a line on.
    """
    count = height(rows)
    if count < FEW and set(rows) == {"text"}:
        cuts = [_line_start(text, round(len(text) * (1 - fraction))) for text in rows["text"]]
        kept = [text[:cut] for text, cut in zip(rows["text"], cuts, strict=True)]
        ends = [text[cut:] for text, cut in zip(rows["text"], cuts, strict=True)]
        taken = sum(map(len, ends))
        return {"text": kept}, {"text": ends}, f"the last {taken:,} of {taken + sum(map(len, kept)):,} characters"
    first: dict[Any, int] = {}
    shared = rows["context"] if "context" in rows else items(rows).tolist()
    groups = np.array([first.setdefault(item, len(first)) for item in shared])
    order = np.argsort(hash64(seed, to, groups), kind="stable")
    number = round(fraction * count)
    while 0 < number < count and groups[order[number]] == groups[order[number - 1]]:
        number += 1
    kept_rows, taken_rows = np.sort(order[number:]), np.sort(order[:number])
    return picked(rows, kept_rows), picked(rows, taken_rows), f"{number:,} of {count:,} rows drawn from train"


def _line_start(text: str, near: int) -> int:
    """The beginning of the line after a place in a text; the place itself in a text without lines."""
    return text.find("\n", near) + 1 or near
