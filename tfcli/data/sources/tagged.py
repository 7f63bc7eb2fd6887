"""Source of sentences with tagged words: CoNLL-2003, WNUT-17."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.fetch import locate, present
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.data.sources.hub import local_or_hub
from tfcli.data.sources.tables import Table, read_lines
from tfcli.errors import DataError, nearest


class Conll:
    """Source of CoNLL files: one word per line with the tag last, and an empty line after each sentence.

    Lines `-DOCSTART-` are skipped. The tags follow the BIO scheme; an entity that begins with I-, as in the original
    CoNLL-2003, is changed to begin with B-.

    Args:
        files: the file of each split below the root; `a|b` means the first that exists.
        classes: the tags, in label order.
        hub: location on the hub, and `words` and `tags`, the names of its columns.
    """

    def __init__(self, files: Mapping[str, str], *, classes: Sequence[str], hub: Mapping[str, Any] | None = None):
        self.files, self.classes, self.hub = dict(files), list(classes), hub

    def locate(self, request: Request) -> Path | None:
        return locate(request, list(self.files.values()))

    def load(self, request: Request) -> LoadedTables:
        """Load all splits.

        Raises:
            DataError: the data set is missing, or a line has no tag or an unknown one.
        """
        where, tables = local_or_hub(request, list(self.files.values()), self.hub)
        if where is not None:
            paths = {split: present(where, file) for split, file in self.files.items()}
            splits = {split: read_conll(path, self.classes) for split, path in paths.items() if path}
        else:
            splits = {split: self._of_hub(table) for split, table in tables.items()}
        return LoadedTables(splits, {"tags": self.classes}, where=where)

    def _of_hub(self, table: Table) -> Columns:
        assert self.hub is not None
        words, tags = table.column(self.hub["words"]), table.column(self.hub["tags"])
        kept = [row for row, cells in enumerate(words) if cells]
        return {"words": [list(words[row]) for row in kept], "tags": [list(tags[row]) for row in kept]}


def read_conll(path: Path, classes: Sequence[str]) -> Columns:
    """Return the sentences of a file, each as a list of words and a list of the indices of their tags.

    Raises:
        DataError: a line has no tag, or a tag that is not in `classes`.
    """
    rows: Columns = {"words": [], "tags": []}
    words, tags = list[str](), list[str]()
    for number, line in enumerate([*read_lines(path), ""], 1):
        cells = line.split("\t") if "\t" in line else line.split()
        if cells and cells[0] == "-DOCSTART-":
            continue
        if not line.strip():
            if words:
                rows["words"].append(words)
                rows["tags"].append([classes.index(tag) for tag in with_beginnings(tags)])
            words, tags = [], []
        elif len(cells) < 2 or cells[-1].strip() not in ("O", *classes):
            given = cells[-1].strip() if len(cells) > 1 else ""
            what = f"`{printable(given)}` is none of the tags {', '.join(classes)}.{nearest(given, classes)}"
            raise DataError(
                f"{printable(path)}, line {number}: {what if given else 'a word and its tag are expected.'}"
            )
        else:
            words.append(cells[0])
            tags.append(cells[-1].strip())
    return rows


def with_beginnings(tags: Sequence[str]) -> list[str]:
    """Return tags in which every entity begins with B-, also after O or after an entity of another type."""
    before = ["O", *tags]
    return [
        f"B-{tag[2:]}" if tag.startswith("I-") and last[2:] != tag[2:] else tag
        for last, tag in zip(before, tags, strict=False)
    ]
