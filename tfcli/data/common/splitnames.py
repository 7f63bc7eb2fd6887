"""Names that mean a split: of folders, of files and in a table's column `split`, without case. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tfcli.data.common.printable import printable
from tfcli.errors import DataError, nearest

WORDS = {
    "train": ("train", "training", "trainval", "restval"),
    "val": ("val", "valid", "validation", "dev", "devel", "development"),
    "test": ("test", "testing"),
}
"""The words for each split, the only list of them; digits, `set` and the like may stand beside (`train2017`)."""
SPLITS = tuple(WORDS)
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
_BESIDE = frozenset(("set", "sets", "split", "data", "dataset", "image", "images", "img", "imgs", "folder", "files"))


def split_of_folder(name: str) -> str:
    """Return the split that a folder's whole name means (`Train`, `test_set`, `val2017`), or an empty string.

    A class that has such a word among others (`test tube`) is none.
    """
    words = [word for word in _words(name) if word not in _BESIDE]
    return _split(words[0]) if len(words) == 1 else ""


def split_of_file(path: Path) -> str:
    """Return the split that a word of a file's name means (`captions_train.tsv`, `Dev.csv`), or an empty string."""
    return next(filter(None, map(_split, _words(path.stem))), "")


def split_called(name: Any, where: str) -> str:
    """Return one of train, val and test by any of their names; train where a row says none.

    Args:
        name: as the row has it.
        where: the place of the row, for a message.

    Raises:
        DataError: it is another word.
    """
    word = str(name or "").strip()
    split = split_of_folder(word) if word else "train"
    if not split:
        raise DataError(
            f"{where}: the split is `{printable(word)}`; it may be train, val or test.{nearest(word.lower(), SPLIT_OF)}"
        )
    return split


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W\d_]+", name.lower()) if word]


def _split(word: str) -> str:
    return SPLIT_OF.get(word) or SPLIT_OF.get(word.removesuffix("set"), "")
