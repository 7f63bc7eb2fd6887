"""easy-VQA (Zhou 2019): questions about images of one shape, with 13 possible answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfcli.data.columns.filecolumn import FileColumn, check_files
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.fetch import locate, locate_or_fetch
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Picked
from tfcli.data.images.decode import decode
from tfcli.data.sources.tables import parsed, read_lines, read_text, refuse
from tfcli.errors import DataError

ANSWERS = "data/answers.txt"
SPLITS = {"train": "data/train", "test": "data/test"}


class EasyVQA:
    """Source of easy-VQA in its own layout: `data/{train,test}/questions.json`, `data/{train,test}/images/ID.png`."""

    expects = (ANSWERS, *(f"{folder}/questions.json" for folder in SPLITS.values()))

    def locate(self, request: Request) -> Path | None:
        return locate(request, self.expects)

    def load(self, request: Request) -> LoadedTables:
        """Load the questions with references to their images.

        Raises:
            DataError: the data set is missing, or as in `read`.
        """
        root = locate_or_fetch(request, self.expects, None)
        splits = {}
        for split, tables in self.read(root).items():
            asked = tables["questions"]
            splits[split] = {
                "image": Picked(tables["images"]["image"], asked["image"]),
                "question": asked["question"],
                "answer": asked["answer"].tolist(),
            }
        return LoadedTables(splits, {"answer": self.answers(root)}, where=root)

    def answers(self, root: Path) -> list[str]:
        """Return all possible answers, sorted; an answer's class is its position.

        Raises:
            DataError: the list is missing or empty.
        """
        found = sorted({line.strip() for line in read_lines(root / ANSWERS)} - {""})
        if not found:
            raise DataError(f"{printable(root / ANSWERS)} lists no answers.")
        return found

    def read(self, root: Path) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the tables of each split: `images` with the column image; `questions` with question, answer and image.

        An answer is an index into `answers`, and the image of a question is a row of `images`.

        Raises:
            DataError: a file is missing or damaged, an entry is not a question, or an answer is unknown.
        """
        index = {answer: number for number, answer in enumerate(self.answers(root))}
        return {split: _tables(root / folder, index) for split, folder in SPLITS.items()}


def _tables(folder: Path, index: dict[str, int]) -> dict[str, dict[str, Any]]:
    path = folder / "questions.json"
    entries = parsed(path, read_text(path))
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{printable(path)} is not what it should be: a list of [question, answer, image].")
    refuse(path, "are not [question, answer, image]", [f"entry {i}" for i, e in enumerate(entries, 1) if not _whole(e)])
    refuse(
        path,
        "have an answer that answers.txt does not list",
        [f"entry {i} ({answer})" for i, (_, answer, _) in enumerate(entries, 1) if answer not in index],
    )
    names = sorted({image for *_, image in entries})
    files = [folder / "images" / f"{name}.png" for name in names]
    check_files(files, path, "image", mend="take their questions out of it")
    row = {name: number for number, name in enumerate(names)}
    questions = {
        "question": [question for question, *_ in entries],
        "answer": np.array([index[answer] for _, answer, _ in entries], dtype=np.int64),
        "image": np.array([row[image] for *_, image in entries], dtype=np.int64),
    }
    return {"images": {"image": FileColumn(files, decode)}, "questions": questions}


def _whole(entry: Any) -> bool:
    if not isinstance(entry, list) or len(entry) != 3:
        return False
    question, answer, image = entry
    return isinstance(question, str) and bool(question.strip()) and isinstance(answer, str) and type(image) is int
