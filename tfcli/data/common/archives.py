"""Safe unpacking of archives by any library: nothing outside the folder, and no more bytes than a limit.

A zip file declares its unpacked size beforehand; the members of a tar file are counted one by one.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tfcli.data.common.printable import printable
from tfcli.errors import DataError

EXPANSION = 20
"""Largest ratio of unpacked to packed size: archives of images stay below 3, archives of tables below 15."""
SMALL = 100_000_000
"""Number of bytes that any archive may unpack to, whatever its size."""
_ENTRY = 512  # smallest number of bytes that a member counts for


@contextmanager
def bounded(expansion: float | None = None) -> Iterator[None]:
    """Limit `extractall` of `zipfile` and `tarfile` inside a `with` block.

    Args:
        expansion: largest ratio of unpacked to packed size; None means `EXPANSION`.

    Raises:
        DataError: an archive exceeds the limit; a folder that was new is removed.
    """
    times = EXPANSION if expansion is None else expansion
    zipped, tarred = zipfile.ZipFile.extractall, tarfile.TarFile.extractall

    def unzip(archive: zipfile.ZipFile, path: Any = None, members: Any = None, pwd: bytes | None = None) -> None:
        budget = _Budget(archive.filename, times)
        for info in archive.infolist():
            budget.take(info.file_size)
        zipped(archive, path, members, pwd)

    def untar(archive: tarfile.TarFile, path: Any = ".", members: Any = None, **how: Any) -> None:
        budget, new = _Budget(archive.name, times), not Path(path).exists()

        def counted() -> Iterator[tarfile.TarInfo]:
            for member in archive if members is None else members:
                budget.take(member.size)
                yield member

        if hasattr(tarfile, "data_filter"):
            how = {"filter": "data", **how}
        try:
            tarred(archive, path, counted(), **how)
        except DataError:
            if new:
                shutil.rmtree(path, ignore_errors=True)
            raise

    kinds: dict[Any, Any] = {zipfile.ZipFile: unzip, tarfile.TarFile: untar}
    before = {kind: kind.__dict__["extractall"] for kind in kinds}
    try:
        for kind, bound in kinds.items():
            kind.extractall = bound
        yield
    finally:
        for kind, unbound in before.items():
            kind.extractall = unbound


class _Budget:
    """Number of bytes that an archive may still unpack to."""

    def __init__(self, name: Any, times: float):
        self.path, self.times = Path(os.fsdecode(name or "the archive")), times
        self.size = self.path.stat().st_size if self.path.is_file() else 0
        self.most = max(SMALL, times * self.size)
        self.left = self.most

    def take(self, count: int) -> None:
        self.left -= max(count, _ENTRY)
        if self.left < 0:
            raise DataError(
                f"{printable(self.path)} ({self.size / 1e6:,.1f} MB) unpacks to more than {self.most / 1e6:,.0f} MB, "
                f"more than {self.times:g} times its size: it is hardly what it should be. "
                f"Where it is, data.max_expansion={10 * self.times:g} lets it."
            )
