"""Reader of text tables that detects the separator and the quoting from the whole file. Imports no torch.

The separator is that of the suffix (comma for .csv, tab for .tsv) where it fits the file. Otherwise it is the only
separator with which every row has as many cells as the first; if several fit, the user must choose.

With commas and semicolons, a cell may be in quotes, with doubled quotes inside. With tabs and pipes, quotes are part of
the text, as in GLUE's files, unless the whole file looks like the output of a program that quotes cells (pandas, Excel,
R).
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfcli.data.common.printable import printable
from tfcli.errors import ConfigError, DataError, nearest

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|"}
NAMED = {character: name for name, character in SEPARATORS.items()}
OWN = {".csv": "comma", ".tsv": "tab"}
QUOTED = ("comma", "semicolon")
"""Separators that occur in ordinary text, so that cells with them are in quotes."""

Rows = list[tuple[int, list[str]]]
"""The last line number and the cells of each row."""


@dataclass(frozen=True)
class How:
    """Settings for reading a text table.

    Args:
        encoding: encoding of the file; None means UTF-8.
        header: names of the columns of a file without a header.
        separator: comma, tab, semicolon, pipe or one character; None means that it is detected.
        quotes: whether a cell may be in quotes; None means that it is detected.

    Raises:
        ConfigError: the separator or the encoding does not exist.
    """

    encoding: str | None = None
    header: Sequence[str] | None = None
    separator: str | None = None
    quotes: bool | None = None

    def __post_init__(self):
        given = self.separator
        if given is not None and given not in SEPARATORS and (len(str(given)) != 1 or given in '"\r\n'):
            raise ConfigError(
                f"`data.separator` must be {', '.join(SEPARATORS)} or one character, but is `{given}`."
                f"{nearest(str(given), SEPARATORS)}"
            )
        check_encoding(self.encoding)
        if not isinstance(self.quotes, bool | None):
            raise ConfigError(f"`data.quotes` must be true, false or null, but is {self.quotes!r}.")

    @classmethod
    def of(cls, facts: dict[str, Any], header: Sequence[str] | None = None) -> How:
        """Return the settings in a request's facts (`data.encoding`, `data.separator`, `data.quotes`)."""
        return cls(facts.get("encoding"), header, facts.get("separator"), facts.get("quotes"))


def check_encoding(name: str | None) -> None:
    """Check that Python knows an encoding; raise ConfigError where it does not."""
    try:
        codecs.lookup(name or "utf-8")
    except LookupError:
        raise ConfigError(f"`data.encoding` is {name}, which is no encoding; utf-8, latin-1 and cp1252 are.") from None


@dataclass
class Layout:
    """The rows of a file, the rule of its format for error messages, and notes for the user."""

    rows: Rows
    rule: str
    notes: list[str] = field(default_factory=list)


def separated(path: Path, text: str, how: How) -> Layout:
    """Split a text file into rows of cells.

    Raises:
        DataError: several separators fit, or quotes are not closed.
    """
    text = text.replace("\r\n", "\n")
    own = OWN.get(path.suffix.lower()) or ("tab" if "\t" in _first(text) else "comma")
    if how.separator:
        name = NAMED.get(how.separator, how.separator)
        return _read(path, text, name, how)
    others = [name for name in SEPARATORS if name != own and SEPARATORS[name] in _first(text)]
    if not others:
        return _read(path, text, own, how)
    if SEPARATORS[own] in _first(text) and _fits(path, text, own, how):
        return _read(path, text, own, how)
    fitting = [name for name in others if _fits(path, text, name, how)]
    if len(fitting) > 1:
        raise DataError(
            f"{printable(path)}: its columns may be parted by {' or '.join(fitting)}. "
            f"Say which: data.separator={fitting[0]}"
        )
    if not fitting and (SEPARATORS[own] in _first(text) or len(others) > 1):
        return _read(path, text, own, how)
    name = fitting[0] if fitting else others[0]
    layout = _read(path, text, name, how)
    if path.suffix.lower() in OWN:
        layout.notes.insert(0, f"{printable(path)}: its columns are parted by {name} (data.separator)")
    return layout


def _first(text: str) -> str:
    return text.split("\n", 1)[0]


def _fits(path: Path, text: str, name: str, how: How) -> bool:
    """Return whether every row has as many cells as the header, and more than one."""
    try:
        rows = _read(path, text, name, how).rows
    except DataError:
        return False
    width = len(how.header or (rows[0][1] if rows else []))
    return width > 1 and all(len(cells) == width for _, cells in rows)


def _read(path: Path, text: str, name: str, how: How) -> Layout:
    character = SEPARATORS.get(name, name)
    word = f"a {name}" if name in SEPARATORS else f"`{name}`"
    quoted = Layout([], f"Text with {word} in it must be in quotes.")
    plain = Layout([], f"There must be {word} between columns only.")
    if how.quotes or (how.quotes is None and name in QUOTED):
        quoted.rows = _quoted(path, text, character)
        return quoted
    plain.rows = _plain(text, character)
    if how.quotes is None and '"' in text:
        try:
            quoted.rows = _quoted(path, text, character)
        except DataError:  # quotes that are not closed are part of the text
            return plain
        if _quoted_by_program(text, quoted.rows, character) or (_even(quoted.rows) and not _even(plain.rows)):
            return quoted
        if any(cell[:1] == '"' == cell[-1:] and len(cell) > 1 for _, cells in plain.rows for cell in cells):
            plain.notes.append(
                f"{printable(path)}: quotes around a text are read as part of it; data.quotes=true takes them off"
            )
    return plain


def _plain(text: str, character: str) -> Rows:
    lines = ((number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line.split(character)) for number, line in lines if line.strip()]


def _quoted(path: Path, text: str, character: str) -> Rows:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a text may be long
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=character, strict=True)
    try:
        return [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise DataError(f"{printable(path)}, line {reader.line_num}: {error}.") from None


def _even(rows: Rows) -> bool:
    return all(len(cells) == len(rows[0][1]) for _, cells in rows)


def _quoted_by_program(text: str, rows: Rows, character: str) -> bool:
    """Return whether the file looks like the output of a program that quotes cells.

    Such a program quotes either the header and all text, or only the cells that need it; for the latter, writing the
    rows again must reproduce the file.
    """
    header = _first(text).split(character)
    if all(cell[:1] == '"' == cell[-1:] and len(cell) > 1 for cell in header):
        return _even(rows)
    again = io.StringIO(newline="")
    csv.writer(again, delimiter=character, lineterminator="\n").writerows(cells for _, cells in rows)
    return again.getvalue().rstrip("\n") == text.rstrip("\n")
