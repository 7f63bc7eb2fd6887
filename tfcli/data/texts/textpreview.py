"""Preview of rows of text."""

from __future__ import annotations

from typing import Any

from tfcli.data.columns.filetext import FileText

WIDEST = 90
"""Largest number of characters that are shown of a text."""


def short(row: dict[str, Any]) -> dict[str, Any]:
    """Return the cells of a row as short texts of one line each."""
    if "tags" in row:  # words outside entities are shown without a tag
        marked = [word if tag == "O" else f"{word}/{tag}" for word, tag in zip(row["words"], row["tags"], strict=True)]
        row = {"row": row["row"], "words": marked}
    return {name: _line(name, cell) for name, cell in row.items() if name != "demonstrations"}


def _line(column: str, cell: Any) -> Any:
    if column == "answers":
        cell = " | ".join(dict.fromkeys(answer["text"] for answer in cell)) or "(none)"
    elif isinstance(cell, list):
        cell = (" " if column == "words" else " | ").join(map(str, cell))
    if isinstance(cell, FileText):
        cell = str(cell[: 4 * WIDEST])
    if not isinstance(cell, str):
        return cell
    line = " ".join(cell.split())
    return line if len(line) <= WIDEST else line[: WIDEST - 1] + "…"
