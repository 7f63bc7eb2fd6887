"""Space on the disk: checked before a run begins, reserved for its record, named where it runs out. No torch."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tfcli.engine.runs.format import size
from tfcli.errors import RunError, TfcliError
from tfcli.files import is_full

RESERVED_BYTES = 64 * 1024


def no_space(path: Path, error: OSError) -> TfcliError:
    """Return the error that says which file could not be written, how much space its disk has, and what to do."""
    reason = error.strerror or str(error)
    free = size(shutil.disk_usage(_nearest(path)).free)
    return TfcliError(
        f"`{path}` could not be written: {reason} ({free} free there). Make room, or take another disk with "
        "`run.root=FOLDER`; `tfcli resume` goes on with a run that has a checkpoint."
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk inside the block into an error that names `path`.

    Raises:
        TfcliError: see `no_space`.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise no_space(path, error) from error


@contextmanager
def reserved_space(folder: Path) -> Iterator[None]:
    """Reserve a few kilobytes for the record, so that a run on a disk that fills up can still say how it ended.

    Raises:
        RunError: the disk has not even that.
    """
    file = folder / ".reserve"
    try:
        with open(file, "wb") as reserve:
            reserve.write(os.urandom(RESERVED_BYTES))  # zeros would take no room on some file systems
            reserve.flush()
            os.fsync(reserve.fileno())
    except OSError as error:
        file.unlink(missing_ok=True)
        if is_full(error):
            raise RunError(str(no_space(file, error))) from error
    try:
        yield
    finally:
        free_reserved_space(folder)


def free_reserved_space(folder: Path) -> None:
    """Free what `reserved_space` reserved, before the record is written."""
    with suppress(OSError):
        (folder / ".reserve").unlink(missing_ok=True)


def check_space(folder: Path, *, checkpoint_bytes: int, copies: int) -> None:
    """Refuse a run whose checkpoints cannot fit.

    Args:
        folder: where they would go; it need not exist yet.
        checkpoint_bytes: the size of one.
        copies: how many more will lie there at once, the one that is being written included.

    Raises:
        RunError: with what is needed and what is free.
    """
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY and checkpoint_bytes > limit:
        raise RunError(
            f"a checkpoint of this model takes about {size(checkpoint_bytes)}, but files may have {size(limit)} here "
            "(`ulimit -f`). Raise the limit with `ulimit -f unlimited`, or take a smaller model."
        )
    free = shutil.disk_usage(_nearest(folder)).free
    if checkpoint_bytes * copies > free:
        raise RunError(
            f"`{folder}` has {size(free)} free, but a checkpoint of this model takes about {size(checkpoint_bytes)} "
            f"and {copies} must fit at once. Make room, or take another disk with `run.root=FOLDER`."
        )


def _nearest(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
