"""Files that are there whole or not at all, and work that one process does at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content`: a temporary file beside it, fsync, rename, fsync of the folder.

    A reader, or a machine that loses power, sees the old file or the new one. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of room: the disk, a quota, or the largest size that a file may have."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_open: set[int] = set()
"""The lock files that this process has open."""


def _leave_to_parent() -> None:
    """Close the parent's lock files in a forked child: a loader worker that outlives a killed run must not hold it."""
    for handle in _open:
        os.close(handle)
    _open.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def alone(lock: Path, *, wait: bool = True) -> Iterator[int | None]:
    """Hold the file `lock`, made where it is missing; no other process is inside meanwhile. The kernel releases it.

    Yields the open file, or None where it cannot be written or the file system has no locks: then nobody waits.

    Args:
        wait: wait for the process that holds it.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
    """
    handle = _take(lock, wait)
    try:
        yield handle
    finally:
        if handle is not None:
            _drop(handle)


def _take(lock: Path, wait: bool) -> int | None:
    end = time.monotonic() + 0.2  # `is_held` holds it for a moment
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return None
        _open.add(handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_at(handle, lock):
                return handle
            _drop(handle)  # its holder has removed it: lock the new one
        except BlockingIOError:
            _drop(handle)
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        except OSError:
            _drop(handle)
            return None


def _drop(handle: int) -> None:
    _open.discard(handle)
    os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def is_held(lock: Path) -> bool:
    """Return whether a process holds the file `lock` with `alone`."""
    try:
        with open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def identity() -> str:
    """Return a name of this process that no later one gets: its number and, on Linux, when it began."""
    return f"{os.getpid()}.{_began(os.getpid())}"


def is_alive(name: str) -> bool:
    """Return whether the process with this `identity`, or of this mere number, lives on this machine."""
    pid, _, began = name.partition(".")
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        pass
    return not began or began == _began(int(pid))


def _began(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""
