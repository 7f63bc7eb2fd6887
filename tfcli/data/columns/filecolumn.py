"""Columns of files that are read only when their rows are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfcli.data.common.printable import printable
from tfcli.errors import DataError

_SHOWN = 3


class FileColumn:
    """A column whose rows are files.

    Args:
        paths: the file of each row.
        read: loads the cell from a file.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[Path], Any]):
        self.paths, self.read = list(paths), read

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int] | np.ndarray) -> list[Any]:
        """Return the contents of some rows.

        Raises:
            DataError: a file cannot be read.
        """
        return [self.read(self.paths[row]) for row in rows]


def check_files(paths: Sequence[Path], where: Path | str, what: str, *, mend: str) -> None:
    """Check that files exist.

    Args:
        paths: the files.
        where: the list that names them, or the pattern of their names.
        what: the kind of the files, for the message.
        mend: what the user can do instead of restoring them.

    Raises:
        DataError: files are missing; the message names the first of them.
    """
    gone = [path for path in paths if not path.is_file()]
    if gone:
        more = f", and {len(gone) - _SHOWN:,} more" if len(gone) > _SHOWN else ""
        raise DataError(
            f"{printable(where)}: {len(gone):,} of {len(paths):,} {what} files are missing: "
            f"{', '.join(map(printable, gone[:_SHOWN]))}{more}. Restore them, or {mend}."
        )
