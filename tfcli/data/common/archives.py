"""Archives unpacked within bounds, whichever library unpacks them: nothing outside the folder, and not without end.

A zip file says beforehand what it unpacks to and gives no more than that; members of a tar are counted as they come.
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
"""Times its own size that an archive may unpack to: archives of images stay below 3, of tables below 15."""
SMALL = 100_000_000
"""Bytes that any archive may unpack to."""
_ENTRY = 512  # bytes that an empty member counts


@contextmanager
def bounded(expansion: float | None = None) -> Iterator[None]:
    """Let `zipfile` and `tarfile` unpack whole archives only within bounds.

    Args:
        expansion: times its own size that an archive may unpack to; None: `EXPANSION`.

    Raises:
        DataError: where an archive goes beyond; what it has unpacked to a folder of its own is removed.
    """
    times = EXPANSION if expansion is None else expansion
    zipped, tarred = zipfile.ZipFile.extractall, tarfile.TarFile.extractall

    def unzip(archive: zipfile.ZipFile, path: Any = None, members: Any = None, pwd: bytes | None = None) -> None:
        allowed = _Allowed(archive.filename, times)
        for info in archive.infolist():
            allowed.take(info.file_size)
        zipped(archive, path, members, pwd)

    def untar(archive: tarfile.TarFile, path: Any = ".", members: Any = None, **how: Any) -> None:
        allowed, new = _Allowed(archive.name, times), not Path(path).exists()

        def counted() -> Iterator[tarfile.TarInfo]:
            for member in archive if members is None else members:
                allowed.take(member.size)
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


class _Allowed:
    """Bytes that an archive may still unpack to."""

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
