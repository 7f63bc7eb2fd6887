"""The protocol of views: an objective's samples of the rows of a table."""

from __future__ import annotations

from typing import Any, Protocol

from tfcli.data.common.loader import Samples
from tfcli.data.common.rows import Columns


class View(Protocol):
    """Lays out samples of a table: images with labels, windows of a stream, masked sentences, pairs.

    Which columns it needs is said once, by `needs` of the task that names it.

    Attributes:
        unit: what a sample is called.
        reads_text: whether it needs the model's tokenizer.
        beside: optional; a view of the labelled table of the same source, by which evaluations are also served.
    """

    unit: str
    reads_text: bool

    def encode(self, rows: Columns, tokenizer: Any, *, length: int | None, train: bool) -> Samples:
        """Return the samples of one split.

        Args:
            rows: the table.
            tokenizer: of the model; None where it reads no text.
            length: most tokens of a sample; None: there is no limit.
            train: whether the split is trained on.
        """
        ...
