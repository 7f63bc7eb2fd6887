"""Running text: a document a row, line breaks kept."""

from __future__ import annotations

from pathlib import Path

from tfcli.data.captionfiles import read_text
from tfcli.data.fetch import locate, locate_or_fetch
from tfcli.data.items import Request
from tfcli.data.textitems import LoadedTexts


class Document:
    """One file that is one document: all of it is training text, until the data module carves its end.

    Args:
        file: its name below the set's root.
    """

    def __init__(self, file: str):
        self.file = file

    def locate(self, request: Request) -> Path | None:
        return locate(request, [self.file])

    def load(self, request: Request) -> LoadedTexts:
        """Read it.

        Raises:
            DataError: missing, unreadable, or not UTF-8.
        """
        root = locate_or_fetch(request, [self.file], None)
        return LoadedTexts({"train": {"text": [read_text(root / self.file)]}}, where=root)
