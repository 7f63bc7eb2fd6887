"""Source of text records: one file per split (.jsonl, .json, .csv, .tsv), one object or row per sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.fetch import locate, present
from tfcli.data.common.request import Request
from tfcli.data.sources.hub import local_or_hub
from tfcli.data.sources.separated import How
from tfcli.data.sources.tables import Table, read_table, refuse
from tfcli.errors import DataError


class TextRecords:
    """Source of columns of text: instructions and answers, problems and solutions, preferred and rejected answers.

    Args:
        files: the file of each split below the root; `a|b` means the first that exists. Only that of train must exist.
        columns: for each of our columns, the key or header in the files. Cells must not be empty.
        may_be_empty: columns whose cells may be empty or missing.
        hub: location on the hub; see `tfcli.data.sources.hub`.
    """

    def __init__(
        self,
        files: Mapping[str, str],
        columns: Mapping[str, str],
        *,
        may_be_empty: Sequence[str] = (),
        hub: Mapping[str, Any] | None = None,
    ):
        self.files, self.columns, self.may_be_empty, self.hub = dict(files), dict(columns), tuple(may_be_empty), hub

    @property
    def expects(self) -> list[str]:
        """The files that must exist."""
        return [self.files["train"]]

    def locate(self, request: Request) -> Path | None:
        return locate(request, self.expects)

    def load(self, request: Request) -> LoadedTables:
        """Load the splits that exist.

        Raises:
            DataError: the data set is not available; a file is damaged or empty, lacks a column, or has a cell that is
                not text.
        """
        root, tables = local_or_hub(request, self.expects, self.hub)
        if root is not None:
            there = {split: present(root, file) for split, file in self.files.items()}
            tables = {split: read_table(path, How.of(request.facts)) for split, path in there.items() if path}
        return LoadedTables({split: self._split(table) for split, table in tables.items()}, where=root)

    def _split(self, table: Table) -> dict[str, list[str]]:
        if not len(table):
            raise DataError(f"{table.where} has no records.")
        found = {ours: table.column(theirs) for ours, theirs in self.columns.items()}
        for ours, cells in found.items():
            if ours in self.may_be_empty:
                found[ours] = cells = ["" if cell is None else cell for cell in cells]
            odd = [table.place(i) for i, cell in enumerate(cells) if not isinstance(cell, str)]
            refuse(table.where, f"have no text as `{self.columns[ours]}`", odd)
            if ours not in self.may_be_empty:
                empty = [table.place(i) for i, cell in enumerate(cells) if not cell.strip()]
                refuse(table.where, f"have an empty `{self.columns[ours]}`", empty)
        return found
