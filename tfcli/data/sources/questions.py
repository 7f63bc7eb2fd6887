"""Source of questions whose answers are spans of a text: SQuAD 1.1 and 2.0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.fetch import locate
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.data.sources.hub import local_or_hub
from tfcli.data.sources.tables import Table, parsed, read_text
from tfcli.errors import DataError

NAMES = ("id", "question", "context", "answers")


class Squad:
    """SQuAD (Rajpurkar et al. 2016, 2018) in its own JSON layout.

    The test answers are not published, so the dev split is used for testing, and the data module sets aside a
    validation split. Answers whose stated position is wrong are omitted, as are training questions without any other
    answer.

    Args:
        version: 1.1, or 2.0 with questions that have no answer.
        hub: location on the hub; see `tfcli.data.sources.hub`.
    """

    def __init__(self, version: str, *, hub: Mapping[str, Any] | None = None):
        self.files = {"train": f"train-v{version}.json", "test": f"dev-v{version}.json"}
        self.hub = hub

    def locate(self, request: Request) -> Path | None:
        return locate(request, list(self.files.values()))

    def load(self, request: Request) -> LoadedTables:
        """Load both splits.

        Raises:
            DataError: the data set is missing or not in SQuAD's layout.
        """
        where, tables = local_or_hub(request, list(self.files.values()), self.hub)
        found = {split: _of_hub(table) for split, table in tables.items()}
        if where is not None:
            found = {split: read_squad(where / file) for split, file in self.files.items()}
        notes = [f"{request.name}: its test answers are secret; `test` is the dev split"]
        splits = {split: checked(rows, request.name, split, notes) for split, rows in found.items()}
        return LoadedTables(splits, notes=notes, where=where)


def read_squad(path: Path) -> Columns:
    """Read a file of SQuAD into a table with one question per row.

    Raises:
        DataError: the file is not in SQuAD's layout.
    """
    rows: Columns = {name: [] for name in NAMES}
    try:
        for article in parsed(path, read_text(path))["data"]:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    answers = [] if asked.get("is_impossible") else asked["answers"]
                    places = [{"text": answer["text"], "start": answer["answer_start"]} for answer in answers]
                    for name, value in zip(
                        NAMES, (asked["id"], asked["question"], paragraph["context"], places), strict=True
                    ):
                        rows[name].append(value)
    except (KeyError, TypeError) as error:
        raise DataError(f"{printable(path)} is not in SQuAD's layout: an entry lacks {error}.") from None
    return rows


def checked(rows: Columns, name: str, split: str, notes: list[str]) -> Columns:
    """Return the questions without the answers whose stated position is wrong."""
    wrong, kept = 0, list[int]()
    for row, (context, answers) in enumerate(zip(rows["context"], rows["answers"], strict=True)):
        true = [
            a for a in answers if a["text"].strip() and context[a["start"] : a["start"] + len(a["text"])] == a["text"]
        ]
        wrong += len(answers) - len(true)
        rows["answers"][row] = true
        if true or not answers or split != "train":
            kept.append(row)
    if wrong:
        notes.append(f"{name}: {wrong:,} answers of {split} are not at the place that the file states and are left out")
    return {column: [cells[row] for row in kept] for column, cells in rows.items()}


def _of_hub(table: Table) -> Columns:
    rows: Columns = {name: list(table.column(name)) for name in NAMES}
    rows["answers"] = [
        [{"text": text, "start": start} for text, start in zip(a["text"], a["answer_start"], strict=True)]
        for a in rows["answers"]
    ]
    return rows
