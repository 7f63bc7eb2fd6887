"""Rows of a set of texts, to be looked at."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcli.data.common.rows import Columns, height

WIDEST = 90
"""Letters of a text that are shown."""


def sampled(rows: Columns, classes: list[str], count: int) -> list[dict[str, Any]]:
    """Some rows, evenly drawn, with the names of their labels."""
    chosen = np.unique(np.linspace(0, height(rows) - 1, count).astype(np.int64))
    return [{"row": int(i), **{name: _named(name, cells[i], classes) for name, cells in rows.items()}} for i in chosen]


def _named(column: str, cell: Any, classes: list[str]) -> Any:
    if column == "label" and classes:
        return classes[cell]
    return [classes[tag] for tag in cell] if column == "tags" else cell


def short(row: dict[str, Any]) -> dict[str, Any]:
    """A row as cells of a table: each a piece of text in one line."""
    if "tags" in row:  # what is no entity needs no tag
        marked = [word if tag == "O" else f"{word}/{tag}" for word, tag in zip(row["words"], row["tags"], strict=True)]
        row = {"row": row["row"], "words": marked}
    return {name: _line(name, cell) for name, cell in row.items() if name != "demonstrations"}


def _line(column: str, cell: Any) -> Any:
    if column == "answers":
        cell = " | ".join(dict.fromkeys(answer["text"] for answer in cell)) or "(none)"
    elif isinstance(cell, list):
        cell = (" | " if column == "choices" else " ").join(cell)
    if not isinstance(cell, str):
        return cell
    line = " ".join(cell.split())
    return line if len(line) <= WIDEST else line[: WIDEST - 1] + "…"
