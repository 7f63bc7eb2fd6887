"""Readers of tables into named columns with the line number of every row, and of plain text.

.tsv          tabs between columns (`tfcli.data.sources.separated`)
.csv          commas between columns
.txt          tabs or commas
.jsonl        one object per line
.json         a list of objects
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tfcli.data.common.printable import printable
from tfcli.data.sources.separated import How, Layout, check_encoding, separated
from tfcli.errors import DataError, nearest

SUFFIXES = (".tsv", ".csv", ".txt", ".jsonl", ".json")
_SHOWN = 10


@dataclass
class Table:
    """A table of named columns of equal length.

    Attributes:
        where: the file, for messages.
        columns: cells by column; None where a JSON object lacks the key.
        numbers: the line or entry number of each row.
        unit: unit of these numbers, line or entry.
        notes: notes for the user about the detected format.
        twice: names that occur more than once.
    """

    where: str
    columns: dict[str, list[Any]]
    numbers: Sequence[int]
    unit: str = "line"
    notes: Sequence[str] = ()
    twice: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    def place(self, row: int) -> str:
        """Return the position of a row, for a message."""
        return f"{self.unit} {self.numbers[row]}"

    def column(self, name: str, setting: str = "") -> list[Any]:
        """Return the cells of a column.

        Args:
            name: name of the column.
            setting: advice for the message, how to name another column.

        Raises:
            DataError: there is no such column, or there are several.
        """
        if name in self.twice:
            raise DataError(f"{self.where} has several columns `{printable(name)}`: rename all but one.")
        if name not in self.columns:
            raise DataError(
                f"{self.where} has no column `{printable(name)}`; it has {self.shown_columns()}."
                f"{nearest(name, self.columns)}{setting and ' ' + setting}"
            )
        return self.columns[name]

    def shown_columns(self) -> str:
        """Return the names of the columns for a message."""
        return ", ".join(printable(name) for name in list(self.columns)[:_SHOWN]) or "none"

    def without(self, rows: Iterable[int]) -> Table:
        """Return the table without some rows."""
        gone = set(rows)
        kept = [row for row in range(len(self)) if row not in gone]
        columns = {name: [cells[row] for row in kept] for name, cells in self.columns.items()}
        return replace(self, columns=columns, numbers=[self.numbers[row] for row in kept])


def read_table(path: Path, how: How | None = None, *, short: list[int] | None = None) -> Table:
    """Read a table; the suffix of the file determines its format.

    Args:
        path: the file.
        how: settings for a text table.
        short: list that collects the numbers of omitted lines with too few or too many cells; None makes them an error.

    Raises:
        DataError: the file cannot be read, has another format, or a row does not fit the header.
    """
    how = how or How()
    text = read_text(path, encoding=how.encoding)
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        numbers = [number for number, _ in lines]
        return _objects(path, [parsed(path, line, f"line {number}") for number, line in lines], numbers, "line")
    if suffix == ".json":
        content = parsed(path, text)
        if not isinstance(content, list):
            raise DataError(f"{printable(path)} is no table: a list of objects is expected.")
        return _objects(path, content, range(1, len(content) + 1), "entry")
    return _table(path, separated(path, text, how), how.header, short)


def _objects(path: Path, entries: Sequence[Any], numbers: Sequence[int], unit: str) -> Table:
    for number, entry in zip(numbers, entries, strict=True):
        if not isinstance(entry, dict):
            raise DataError(f"{printable(path)}, {unit} {number}: an object is expected, with a value for each column.")
    names = dict.fromkeys(name for entry in entries for name in entry)
    return Table(printable(path), {name: [entry.get(name) for entry in entries] for name in names}, numbers, unit)


def _table(path: Path, layout: Layout, header: Sequence[str] | None, short: list[int] | None) -> Table:
    rows = list(layout.rows)
    if not rows:
        raise DataError(f"{printable(path)} is empty.")
    names = [name.strip() for name in header or rows.pop(0)[1]]
    odd = [(number, len(cells)) for number, cells in rows if len(cells) != len(names)]
    if odd and short is None:
        raise DataError(
            f"{printable(path)}, line {odd[0][0]}: {odd[0][1]} columns, but the header has {len(names)} "
            f"({', '.join(names)}). {layout.rule}"
        )
    if short is not None:
        short += [number for number, _ in odd]
    rows = [row for row in rows if len(row[1]) == len(names)]
    columns = zip(*(cells for _, cells in rows), strict=True) if rows else ([] for _ in names)
    numbers = [number for number, _ in rows]
    named = dict(zip(names, map(list, columns), strict=True))
    twice = [name for name in named if names.count(name) > 1]
    return Table(printable(path), named, numbers, notes=layout.notes, twice=twice)


def read_lines(path: Path, *, encoding: str | None = None) -> list[str]:
    """Return the lines of a text file without line endings."""
    lines = read_text(path, encoding=encoding).split("\n")
    return [line.rstrip("\r") for line in (lines if lines[-1] else lines[:-1])]


def read_text(path: Path, *, encoding: str | None = None) -> str:
    """Return the contents of a text file, with or without a byte-order mark.

    Args:
        path: the file.
        encoding: encoding of the file; None means UTF-8 for data sets without the setting `data.encoding`.

    Raises:
        ConfigError: the encoding does not exist.
        DataError: the file cannot be read or has another encoding; the message names the line and the byte.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    check_encoding(encoding)
    named = encoding or "utf-8"
    try:
        return content.decode("utf-8-sig" if named.lower() in ("utf-8", "utf8") else named)
    except UnicodeDecodeError as error:
        raise not_in(encoding, path, content, error) from None


def unreadable(path: Path, error: Exception) -> DataError:
    """Return the error about a file that cannot be read."""
    return DataError(f"{printable(path)} cannot be read: {getattr(error, 'strerror', None) or error}.")


def not_in(encoding: str | None, path: Path, content: bytes, error: UnicodeDecodeError) -> DataError:
    """Return the error about a file that is not in its encoding, with the line and the byte.

    Args:
        encoding: `data.encoding`; None for data sets without this setting.
        path: the file.
        content: its bytes, at least as far as the place of the error.
        error: what the decoder raised.
    """
    named = encoding or "utf-8"
    line = content.count(b"\n", 0, error.start) + 1
    place = error.start - content.rfind(b"\n", 0, error.start)
    marked = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    other = "utf-16" if marked else "latin-1" if named != "latin-1" else "utf-8"
    mend = "Convert the file." if encoding is None else f"Say which it is, for instance data.encoding={other}."
    return DataError(
        f"{printable(path)}, line {line}: not {named.upper()} (byte {place} of the line is "
        f"0x{content[error.start]:02x}: {error.reason}). {mend}"
    )


def parsed(path: Path, text: str, place: str | None = None) -> Any:
    """Return the value of a JSON text.

    Raises:
        DataError: the text is not JSON; the message names the line.
    """
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line = place or f"line {getattr(error, 'lineno', 1)}"
        reason = getattr(error, "msg", "nested too deeply")
        raise DataError(f"{printable(path)}, {line}: not JSON ({reason}).") from None


def refuse(path: Path | str, what: str, places: Sequence[str]) -> None:
    """Raise DataError with the number of places and the first ten of them; do nothing where there are none."""
    if places:
        more = f", and {len(places) - _SHOWN:,} more" if len(places) > _SHOWN else ""
        raise DataError(f"{printable(path)}: {len(places):,} rows {what}: {', '.join(places[:_SHOWN])}{more}.")
