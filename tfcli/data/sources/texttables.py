"""Sources of text tables: published ones, such as GLUE's nine tasks (Wang et al. 2019), and a user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.entries import foreign
from tfcli.data.common.fetch import found_in, locate, present
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.data.common.splitnames import split_called, split_of_file
from tfcli.data.sources.hub import local_or_hub
from tfcli.data.sources.separated import How
from tfcli.data.sources.tables import SUFFIXES, Table, read_table
from tfcli.data.sources.textcolumns import Named, check_columns, drops_empty_rows, gathered, has_labels
from tfcli.errors import DataError


class Tables:
    """Source of a published data set with a table for each split.

    Many data sets do not publish their test labels. In this case, as usual, `val` is used for testing, and a validation
    split is set aside from train. Where test labels exist (MRPC's original files, STS-B), `val` is used for validation.

    Args:
        files: the file of each split below the root; `a|b` means the first that exists. Only that of train must exist.
        columns: headers of the tables by our names of the columns; `choices` has several.
        classes: names of the labels, in label order; a cell is a name or an index. None means the labels in the tables.
        header: names of the columns of files without a header.
        parts: splits by name that together are the test split and also get metrics of their own.
        hub: location on the hub, see `tfcli.data.sources.hub`, with `columns` where its headers differ.
    """

    def __init__(
        self,
        files: Mapping[str, str],
        *,
        columns: Named,
        classes: Sequence[str] | None = None,
        header: Sequence[str] | None = None,
        parts: Mapping[str, str] | None = None,
        hub: Mapping[str, Any] | None = None,
    ):
        self.files, self.columns, self.classes = dict(files), dict(columns), list(classes or [])
        self.header, self.parts, self.hub = header, dict(parts or {}), hub
        check_columns(self.columns)

    @property
    def expects(self) -> list[str]:
        return [self.files["train"]]

    def locate(self, request: Request) -> Path | None:
        return locate(request, self.expects)

    def load(self, request: Request) -> LoadedTables:
        """Load all splits.

        Raises:
            DataError: the data set is missing, or a file has another layout.
        """
        where, tables = local_or_hub(request, self.expects, self.hub)
        columns, notes = (self.hub or {}).get("columns") or self.columns, list[str]()
        if where is not None:
            paths = {split: present(where, file) for split, file in self.files.items()}
            found = {split: path for split, path in paths.items() if path is not None}
            tables = {split: read_split(path, request, notes, header=self.header) for split, path in found.items()}
            columns = self.columns
        labelled = {split: table for split, table in tables.items() if split == "train" or has_labels(table, columns)}
        if "test" not in labelled and "val" in labelled:
            labelled = {"test" if split == "val" else split: table for split, table in labelled.items()}
            notes.append(
                f"{request.name}: its test labels are not published; `test` is the dev split, and validation is set "
                "aside from training"
            )
        loaded = gathered(labelled, columns, self.classes, request, notes, where)
        if self.parts and set(self.parts.values()) <= set(loaded.splits):
            loaded.splits["test"] = joined([loaded.splits.pop(split) for split in self.parts.values()])
            loaded.groups = list(self.parts)
        return loaded


def joined(parts: Sequence[Columns]) -> Columns:
    """Return the rows of several tables one after the other; `group` is the number of each row's table."""
    found = {name: [cell for part in parts for cell in part[name]] for name in parts[0]}
    return {**found, "group": [number for number, part in enumerate(parts) for _ in next(iter(part.values()))]}


class OwnTable:
    """Source `data=table`: a user's table, or a folder with one table or one per split (`train.csv`, `dev.csv`, ...).

    The splits are given by the files, or by a column `split`; otherwise the data module sets them aside.

    Args:
        columns: headers of the table by our names of the columns.
        classes: names of the labels, in label order; None means the labels in the table.
        header: names of the columns of a table without a header.
    """

    def __init__(self, columns: Named, *, classes: Sequence[str] | None = None, header: Sequence[str] | None = None):
        self.columns, self.classes, self.header = dict(columns), list(map(str, classes or [])), header
        check_columns(self.columns)

    def locate(self, request: Request) -> Path | None:
        return request.root if own_files(request.root, SUFFIXES) else None

    def load(self, request: Request) -> LoadedTables:
        """Load the tables.

        Raises:
            DataError: there is no table, or a column is missing.
        """
        files, notes = own_files(request.root, SUFFIXES), list[str]()
        if not files:
            raise DataError(
                f"{request.name}: there is no table.\n  Expected: a file ({', '.join(SUFFIXES)}), or a folder with one "
                f"or with train, val and test\n  Found: {found_in(request.root)}\n"
                "  Name the folder or the file with data.root=PATH."
            )
        tables = {split: read_split(path, request, notes, header=self.header) for split, path in files.items()}
        notes += [note for table in tables.values() for note in table.notes]
        whole = tables.get("")
        if whole is not None:
            tables = by_column(whole) if "split" in whole.columns else {"train": whole}
        if "train" not in tables:
            raise DataError(f"{request.name}: there is no split `train`, only {', '.join(sorted(tables))}.")
        where = next(iter(files.values())).parent
        return gathered(tables, self.columns, self.classes, request, notes, where)


def own_files(root: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Return the file of each split in a user's folder; a single file for all splits has an empty name.

    Raises:
        DataError: several files may be the same split.
    """
    if root.is_file():
        return {"": root}
    found: dict[str, list[Path]] = {}
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        named = path.name.lower()
        if path.suffix.lower() in suffixes and not foreign(named) and not named.startswith(("readme", "licen")):
            found.setdefault(split_of_file(path), []).append(path)
    chosen = {split: paths for split, paths in found.items() if split} if "train" in found else found
    for split, paths in chosen.items():
        if len(paths) > 1:
            names = ", ".join(printable(path.name) for path in paths)
            raise DataError(
                f"{printable(root)}: {len(paths)} files may be {split or 'the set'} ({names}). Name one with "
                "data.root=FILE, or call them train, val and test."
            )
    return {split: paths[0] for split, paths in chosen.items()}


def by_column(table: Table) -> dict[str, Table]:
    """Split a table by its column `split`."""
    given = table.columns["split"]
    names = [split_called(name, f"{table.where}, {table.place(row)}") for row, name in enumerate(given)]
    return {
        split: table.without(row for row, name in enumerate(names) if name != split) for split in dict.fromkeys(names)
    }


def read_split(path: Path, request: Request, notes: list[str], *, header: Sequence[str] | None = None) -> Table:
    """Read a table with the settings `data.encoding`, `data.separator`, `data.quotes` and `data.on_empty`."""
    short: list[int] | None = [] if drops_empty_rows(request) else None
    table = read_table(path, How.of(request.facts, header), short=short)
    if short:
        notes.append(f"{printable(path)}: {len(short):,} lines have not as many columns as the header and are left out")
    return table
