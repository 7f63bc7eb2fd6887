"""The type that every source returns to the data module: a table of named columns per split. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns, height


@dataclass
class LoadedTables:
    """A data set that a source loaded, as tables of named columns; see `tfcli.data.common.rows.Columns`.

    Attributes:
        splits: train, val and test where the data set has them, and further splits under their own names
            (`test_2017_flickr`, `val_mismatched`), which are evaluated only on request.
        classes: names of the classes of each column that holds classes (label, tags, answer, mask), in label order.
        notes: messages for the user, one line each.
        where: folder or file of the data set; None where it is generated.
        groups: names of the parts of a split that get metrics of their own; often empty.
        beside: splits of labelled images that are evaluated in addition to the captioned images of `splits`.

    Raises:
        DataError: `classes` is one list instead of a list for each column.
    """

    splits: dict[str, Columns]
    classes: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    where: Path | None = None
    groups: list[str] = field(default_factory=list)
    beside: dict[str, Columns] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows of each split."""
        return {split: height(columns) for split, columns in self.splits.items()}


class Source(Protocol):
    """Protocol of sources, which find and load a data set."""

    def load(self, request: Request) -> LoadedTables: ...

    def locate(self, request: Request) -> Path | str | None:
        """Return where the data set is, without reading it; None where it is missing."""
        ...
