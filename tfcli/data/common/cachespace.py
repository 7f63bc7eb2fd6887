"""Space for large entries of the cache folder, which can be made again: the least recently used ones are removed."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

RECENT_S = 86_400
"""Age of the last use below which an entry is not removed; a run that uses it may be waiting for its next epoch."""


def mark_used(entry: Path) -> None:
    """Keep the time of use of an entry: that of its lock, because the time of a text is part of what identifies it."""
    with suppress(OSError):
        os.utime(entry.with_suffix(".lock"))


def make_room(folder: Path) -> None:
    """Remove entries, the least recently used first, until they leave as much space free on the disk as they take.

    Args:
        folder: a folder of entries, files or folders, each with a file of the same stem that ends in `.lock`.
    """
    found = []
    for entry in folder.iterdir():
        if entry.suffix not in (".lock", ".tmp"):
            with suppress(OSError):  # it has no lock, or another process has just removed it
                found.append((entry.with_suffix(".lock").stat().st_mtime, entry, _size(entry)))
    taken, free = sum(size for _, _, size in found), shutil.disk_usage(folder).free
    for used, entry, size in sorted(found):
        if taken <= free or time.time() - used < RECENT_S:
            return
        _remove(entry)
        taken, free = taken - size, free + size


def _size(entry: Path) -> int:
    files = entry.iterdir() if entry.is_dir() else [entry]
    return sum(file.stat().st_size for file in files)


def _remove(entry: Path) -> None:
    """Remove an entry so that no other process sees a part of it."""
    with suppress(OSError):  # another process removes it, or it belongs to another user
        gone = entry.rename(entry.with_name(f"{entry.name}.{os.getpid()}.tmp"))
        if gone.is_dir():
            shutil.rmtree(gone, ignore_errors=True)
        else:
            gone.unlink()
