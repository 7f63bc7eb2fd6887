"""The protocol of views: an objective's samples of the rows of a table."""

from __future__ import annotations

from typing import Any, Protocol

from tfcli.data.common.loader import Samples
from tfcli.data.common.rows import Columns


class View(Protocol):
    """Protocol of what turns the rows of a table into samples: labelled images, windows of text, masked sentences.

    The columns that a view reads are declared once, in `needs` of the task that uses the view.

    Attributes:
        unit: plural noun for the samples in messages ("images", "windows").
        reads_text: whether the view needs the model's tokenizer.
        beside: optional; the view for the labelled images of the same source, on which the model is evaluated as well.
    """

    unit: str
    reads_text: bool

    def encode(self, rows: Columns, tokenizer: Any, *, length: int | None, train: bool) -> Samples:
        """Return the samples of one split.

        Args:
            rows: the table.
            tokenizer: the model's tokenizer; None where the model reads no text.
            length: the largest number of tokens in a sample; None means no limit.
            train: whether this is the training split.
        """
        ...
