"""Atomic writes, file locks, identities of processes, and where data and caches lie."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace the file `path` by `content`: write a temporary file beside it, fsync, rename, fsync the folder.

    A reader sees the old file or the new one, even after a power failure.

    Raises:
        OSError: the file cannot be written.
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
    """Return whether a write failed for lack of space: of the disk, of a quota, or of the largest file size."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_open: set[int] = set()
"""Lock files that this process has open."""


def _close_in_child() -> None:
    """Close the parent's lock files in a forked child, so that a loader worker of a killed run holds no lock."""
    for handle in _open:
        os.close(handle)
    _open.clear()


os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def alone(lock: Path, *, wait: bool = True) -> Iterator[int | None]:
    """Hold an exclusive lock on the file `lock` inside the context; the kernel releases it if the process dies.

    Yields the open file, or None where the file cannot be written or the file system has no locks: then there is no
    lock.

    Args:
        lock: the file, which is created if necessary.
        wait: wait for the process that holds the lock.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is false.
    """
    handle = _take(lock, wait)
    try:
        yield handle
    finally:
        if handle is not None:
            _drop(handle)


def _take(lock: Path, wait: bool) -> int | None:
    end = time.monotonic() + 0.2  # `is_held` holds the lock for a moment
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
            _drop(handle)  # its holder has removed the file: lock the new one
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
    """Return whether a process holds the lock on the file `lock` (see `alone`)."""
    try:
        with open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def identity() -> str:
    """Return a name of this process that no later process has: its number and, on Linux, its start time."""
    return f"{os.getpid()}.{_start_time(os.getpid())}"


def is_alive(name: str) -> bool:
    """Return whether the process with this `identity`, or with this number alone, is running on this machine."""
    pid, _, started = name.partition(".")
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        pass
    return not started or started == _start_time(int(pid))


def _start_time(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def cache_root() -> Path:
    """Return $TFCLI_CACHE, or `tfcli` in the user's cache folder where it is not set."""
    given = os.environ.get("TFCLI_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tfcli"


def data_root(given: str | os.PathLike | None = None) -> Path:
    """Return `data.root` as an absolute path; by default $TFCLI_DATA, or else `data` in the cache folder."""
    chosen = given or os.environ.get("TFCLI_DATA")
    return Path(chosen).expanduser().absolute() if chosen else cache_root() / "data"


def offline() -> bool:
    """Return whether TFCLI_OFFLINE forbids the network."""
    return os.environ.get("TFCLI_OFFLINE", "") not in ("", "0")
