"""The type that every source gives to the data module: named columns, a table for each split. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns, height
from tfcli.errors import DataError


@dataclass
class LoadedTables:
    """A set of named columns that a source loaded: lists, arrays, or what gathers rows by `take`; see `Columns`.

    Attributes:
        splits: train, val and test as far as the set has them, and whatever further ones it names
            (`test_2017_flickr`, `val_mismatched`): those are only evaluated when they are asked for.
        classes: for each column of classes (label, tags, answer, mask) their names, in the order of their indices.
        notes: what the user should be told, a line each.
        where: the folder or file it lies in; None where it is made.
        groups: names of the parts of a split that are measured apart too; mostly empty.
        beside: splits of labelled images that are not those of `splits`: evaluated beside captioned ones.

    Raises:
        DataError: `classes` is one list in place of a list for each column.
    """

    splits: dict[str, Columns]
    classes: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    where: Path | None = None
    groups: list[str] = field(default_factory=list)
    beside: dict[str, Columns] = field(default_factory=dict)

    def __post_init__(self):
        if not isinstance(self.classes, dict):
            raise DataError(
                "a source gives `classes` for each of its columns, for instance {'label': ['cat', 'dog']}, "
                f"but here they are {self.classes!r}."
            )

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each split."""
        return {split: height(columns) for split, columns in self.splits.items()}


class Source(Protocol):
    """Protocol of sources."""

    def load(self, request: Request) -> LoadedTables: ...

    def locate(self, request: Request) -> Path | str | None:
        """Locate the set without reading it; None when it is missing."""
        ...
