"""Conversion of table cells to the columns of text tasks, with checks that name the row of a wrong cell."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfcli.data.columns.checks import check_splits
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.entries import composed
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.data.sources.tables import Table, refuse
from tfcli.errors import ConfigError, DataError

Named = Mapping[str, str | list[str]]
"""Mapping from our column names to headers of a table; `choices` has several headers."""
KINDS = ("text", "pair", "label", "score", "source", "target", "words", "tags", "context", "choices", "stem", "id")
"""Columns that a table can have; `stem` is a text put before every choice."""
_NAMED = 20


def check_columns(columns: Named) -> None:
    """Check the names of columns in a config.

    Raises:
        ConfigError: a name is not in `KINDS`.
    """
    for name in columns:
        if name not in KINDS:
            raise ConfigError(f"`data.columns` has `{name}`, which is none of {', '.join(KINDS)}.")


def drops_empty_rows(request: Request) -> bool:
    """Return whether rows with an empty cell are dropped (`data.on_empty=drop`) instead of being an error.

    Raises:
        ConfigError: the setting is neither raise nor drop.
    """
    given = request.facts.get("on_empty") or "raise"
    if given not in ("raise", "drop"):
        raise ConfigError(f"`data.on_empty` must be raise or drop, but is {given}.")
    return given == "drop"


def has_labels(table: Table, columns: Named) -> bool:
    """Return whether a split has labels; those of a test split may be secret."""
    name = next((columns[ours] for ours in ("label", "score", "tags") if ours in columns), None)
    if not isinstance(name, str):
        return True
    return any(cell not in (-1, None) for cell in table.columns.get(name, []))


def gathered(
    tables: dict[str, Table],
    columns: Named,
    classes: list[str],
    request: Request,
    notes: list[str],
    where: Path | None,
) -> LoadedTables:
    """Convert the tables of all splits to our columns.

    Args:
        tables: the table of each split.
        columns: headers of the tables by our names of the columns.
        classes: names of the labels or tags; empty means the labels in the tables.
        request: has the settings of the data set.
        notes: list to which notes about dropped rows are added.
        where: folder of the data set.

    Raises:
        ConfigError: a class is named twice.
        DataError: a column is missing, a cell is empty, or a label is unknown.
    """
    tables = {split: without_empty(table, columns, request, notes) for split, table in tables.items()}
    for table in tables.values():
        if not len(table):
            raise DataError(f"{table.where} has no rows.")
    if not classes:
        classes = _classes(tables, columns, request)
    if twice := [name for i, name in enumerate(classes) if name in classes[:i]]:
        raise ConfigError(f"`data.classes` names `{printable(twice[0])}` twice.")
    splits = {split: converted(table, columns, classes) for split, table in tables.items()}
    column = "tags" if "tags" in columns else "label"
    named = {column: classes} if classes and "choices" not in columns else {}
    return LoadedTables(splits, named, notes, where)


def _classes(tables: dict[str, Table], columns: Named, request: Request) -> list[str]:
    """Return the labels in the tables: numbers in numerical order, then words in alphabetical order; the tag O first.

    Raises:
        DataError: the splits have different labels; a test split may lack some tags of train.
    """
    if "choices" in columns:  # the label is the number of a choice
        return list(map(str, range(len(columns["choices"]))))
    kind = next((kind for kind in ("label", "tags") if kind in columns), None)
    if kind is None:
        return []
    cells = {split: table.column(str(columns[kind])) for split, table in tables.items()}
    if kind == "tags":
        cells = {split: [tag for tags in rows for tag in _list(tags)] for split, rows in cells.items()}
    found = {split: set(map(_label, labels)) for split, labels in cells.items()}
    every = sorted(set().union(*found.values()), key=lambda name: (name != "O", _number(name), name))
    needed = {
        split: labels | (found.get("train", labels) if kind == "tags" else set()) for split, labels in found.items()
    }
    named = len(every) <= _NAMED and all(re.fullmatch(r"[\w .,:;()+/@-]+", name) for name in every)
    example = ",".join(f"'{name}'" for name in every) if named else "'A','B',..."
    check_splits(request.name, needed, mend=f'write them alike, or name all that there are: "data.classes=[{example}]"')
    return every


def _label(cell: Any) -> str:
    return composed(str(cell).strip())


def _setting(columns: Named, ours: str, request: Request) -> str:
    """Return advice for a message, how to name another column of a table in the shell."""
    if not isinstance(request.facts.get("columns"), Mapping):
        return f"Name another with data.source.columns.{ours}=NAME."
    named = {**columns, ours: ["NAME", "..."] if ours == "choices" else "NAME"}
    pairs = (f"{key}: {name if isinstance(name, str) else '[' + ', '.join(name) + ']'}" for key, name in named.items())
    return f"Name another with 'data.columns={{{', '.join(pairs)}}}'."


def without_empty(table: Table, columns: Named, request: Request, notes: list[str]) -> Table:
    """Return a table without the rows that have an empty cell, or raise an error that names these rows."""
    empty: set[int] = set()
    for ours, theirs in columns.items():
        for name in [theirs] if isinstance(theirs, str) else theirs:
            cells = table.column(name, _setting(columns, ours, request))
            rows = [i for i, cell in enumerate(cells) if cell is None or cell == [] or not str(cell).strip()]
            if not drops_empty_rows(request) and ours != "id":
                why = f"with an empty `{name}` (data.on_empty=drop leaves them out)"
                refuse(table.where, why, [table.place(row) for row in rows])
            empty.update(rows)
    if empty:
        notes.append(f"{table.where}: {len(empty):,} rows with an empty cell are left out (data.on_empty=drop)")
    return table.without(empty) if empty else table


def converted(table: Table, columns: Named, classes: list[str]) -> Columns:
    """Convert the cells of a table to the values of our columns."""
    found: Columns = {}
    for ours, theirs in columns.items():
        if ours == "choices":
            several = zip(*(table.column(name) for name in theirs), strict=True)
            found[ours] = [list(map(str, choices)) for choices in several]
        elif ours != "stem":
            found[ours] = _values(table, ours, table.column(str(theirs)), classes)
    if "stem" in columns:
        stems = table.column(str(columns["stem"]))
        found["choices"] = [
            [f"{stem} {end}" for end in ends] for stem, ends in zip(stems, found["choices"], strict=True)
        ]
    return found


def _values(table: Table, ours: str, cells: list[Any], classes: list[str]) -> list[Any]:
    unknown = f"none of the classes {', '.join(classes[:20])}"
    if ours == "label":
        return _checked(table, cells, lambda cell: _index(cell, classes), unknown)
    if ours == "tags":
        lists = _checked(table, cells, _list, "no list")
        return _checked(table, lists, lambda tags: [_index(tag, classes) for tag in tags], unknown)
    if ours == "words":
        return _checked(table, cells, lambda cell: list(map(str, _list(cell))), "no list")
    if ours == "score":
        return _checked(table, cells, _finite, "no number")
    return [str(cell).strip() for cell in cells]


def _checked(table: Table, cells: list[Any], convert: Callable[[Any], Any], why: str) -> list[Any]:
    values = []
    for row, cell in enumerate(cells):
        try:
            values.append(convert(cell))
        except (ValueError, TypeError):
            raise DataError(f"{table.where}, {table.place(row)}: `{printable(str(cell))}` is {why}.") from None
    return values


def _index(cell: Any, classes: list[str]) -> int:
    text = _label(cell)
    if text in classes:
        return classes.index(text)
    if 0 <= int(text) < len(classes):
        return int(text)
    raise ValueError


def _list(cell: Any) -> list[Any]:
    if not isinstance(cell, list):
        raise TypeError
    return cell


def _finite(cell: Any) -> float:
    number = float(cell)
    if not math.isfinite(number):
        raise ValueError
    return number


def _number(name: str) -> float:
    try:
        return _finite(name)
    except ValueError:
        return float("inf")
