"""Names of splits in folders, files and columns named `split`, in any case. Imports no torch."""

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
"""The words for each split; digits, `set` and the words of `_BESIDE` may stand beside them (`train2017`)."""
SPLITS = tuple(WORDS)
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
_BESIDE = frozenset(("set", "sets", "split", "data", "dataset", "image", "images", "img", "imgs", "folder", "files"))


def split_of_folder(name: str) -> str:
    """Return the split that the whole name of a folder means (`Train`, `test_set`, `val2017`), or an empty string.

    A name with further words, such as the class `test tube`, is not a split.
    """
    words = [word for word in _words(name) if word not in _BESIDE]
    return _split(words[0]) if len(words) == 1 else ""


def split_of_file(path: Path) -> str:
    """Return the split that a word in a file's name means (`captions_train.tsv`, `Dev.csv`), or an empty string."""
    return next(filter(None, map(_split, _words(path.stem))), "")


def split_called(name: Any, where: str) -> str:
    """Return train, val or test for any name of a split in a table; train where the cell is empty.

    Args:
        name: the cell.
        where: place of the row, for the message.

    Raises:
        DataError: the name is not that of a split.
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
