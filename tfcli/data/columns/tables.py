"""Types that sources of tables give to the data module: named columns, a table for each split. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns, height


@dataclass
class LoadedTables:
    """A set of plain named columns that a source loaded: lists, or what gathers rows by `take`; see `Columns`.

    Attributes:
        splits: train, val and test as far as the set has them, and whatever further ones it names
            (`test_2017_flickr`, `val_mismatched`): those are only evaluated when they are asked for.
        classes: names of the labels, tags or answers, in the order of their indices; empty where there are none.
        notes: what the user should be told, a line each.
        where: the folder or file it lies in; None where it is made.
        groups: names of the parts of a split that are measured apart too; mostly empty.
    """

    splits: dict[str, Columns]
    classes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    where: Path | None = None
    groups: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each split."""
        return {split: height(columns) for split, columns in self.splits.items()}


class TableSource(Protocol):
    """Protocol of sources of tables."""

    def load(self, request: Request) -> LoadedTables: ...

    def locate(self, request: Request) -> Path | str | None:
        """Locate the set without reading it; None when it is missing."""
        ...
