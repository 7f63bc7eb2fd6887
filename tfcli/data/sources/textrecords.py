"""Texts that come as records: a file for each split (.jsonl, .json, .csv, .tsv), an object or a row a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tfcli.data.columns.textitems import LoadedTexts
from tfcli.data.common.fetch import locate, locate_or_fetch, present
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.sources.separated import How
from tfcli.data.sources.tables import Table, read_table, refuse
from tfcli.errors import DataError


class TextRecords:
    """Instructions and answers, problems and solutions, preferred and rejected answers: columns of text.

    Args:
        files: of each split, below the set's root; `a|b` is the first that is there. Only the training file must be.
        columns: for each of our columns the key or header in the files. A text must not be empty.
        may_be_empty: columns of which a text may be empty or missing.
    """

    def __init__(self, files: Mapping[str, str], columns: Mapping[str, str], *, may_be_empty: Sequence[str] = ()):
        self.files, self.columns, self.may_be_empty = dict(files), dict(columns), tuple(may_be_empty)

    @property
    def expects(self) -> list[str]:
        """Files by which the set is recognised."""
        return [self.files["train"]]

    def locate(self, request: Request) -> Path | None:
        return locate(request, self.expects)

    def load(self, request: Request) -> LoadedTexts:
        """Read the files that are there.

        Raises:
            DataError: the set is missing; a file is torn or empty, lacks a column, or has a cell that is no text.
        """
        root = locate_or_fetch(request, self.expects, None)
        there = {split: present(root, file) for split, file in self.files.items()}
        how = How.of(request.facts)
        return LoadedTexts({split: self._split(read_table(p, how), p) for split, p in there.items() if p}, where=root)

    def _split(self, table: Table, path: Path) -> dict[str, list[str]]:
        if not len(table):
            raise DataError(f"{printable(path)} has no records.")
        found = {ours: table.column(theirs) for ours, theirs in self.columns.items()}
        for ours, cells in found.items():
            if ours in self.may_be_empty:
                found[ours] = cells = ["" if cell is None else cell for cell in cells]
            odd = [table.place(i) for i, cell in enumerate(cells) if not isinstance(cell, str)]
            refuse(path, f"have no text as `{self.columns[ours]}`", odd)
            if ours not in self.may_be_empty:
                empty = [table.place(i) for i, cell in enumerate(cells) if not cell.strip()]
                refuse(path, f"have an empty `{self.columns[ours]}`", empty)
        return found
