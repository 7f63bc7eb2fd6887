"""Files of running text, packed or not, of any size: small ones are read, large ones stay in their files."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

from tfcli.data.columns.filetext import FileText, count_characters, stated, unwritable
from tfcli.data.common.cachespace import make_room, mark_used
from tfcli.data.common.printable import printable
from tfcli.data.sources.separated import check_encoding
from tfcli.data.sources.tables import not_in, unreadable
from tfcli.errors import DataError, install
from tfcli.files import alone, cache_root

LARGE = 2**24
"""Smallest number of bytes of a file that is not read into memory."""
PACKED = (".gz", ".zst")


def read_document(path: Path, *, encoding: str | None = None) -> str | FileText:
    """Return the text of a file, with or without a byte-order mark; of a large file in UTF-8, where it lies.

    A large file that is packed is unpacked into the cache folder once.

    Args:
        path: the file; gzip where its name ends in `.gz`, and Zstandard where it ends in `.zst`.
        encoding: encoding of the file; None means UTF-8 for data sets without the setting `data.encoding`.

    Raises:
        ConfigError: the encoding does not exist.
        DataError: the file cannot be read or unpacked, or has another encoding; the message names the line and the
            byte.
    """
    check_encoding(encoding)
    named, whole = encoding or "utf-8", -1
    if named.lower() in ("utf-8", "utf8"):
        named, whole = "utf-8-sig", LARGE
    try:
        with _opened(path) as file:
            content = file.read(whole)
        if len(content) == whole:
            return _in_file(path, encoding)
        return content.decode(named)
    except UnicodeDecodeError as error:
        raise not_in(encoding, path, content, error) from None
    except _faults() as error:
        raise unreadable(path, error) from None


def _opened(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return cast(IO[bytes], gzip.open(path))
    if path.suffix.lower() != ".zst":
        return path.open("rb")
    try:
        return cast(IO[bytes], _zstandard().open(path))
    except ImportError:
        raise DataError(f"{printable(path)} is packed with Zstandard: {install('zst')}") from None


def _zstandard() -> Any:
    """Return the standard library's module, or its backport before Python 3.14: both know a file that is cut off."""
    return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def _faults() -> tuple[type[Exception], ...]:
    """Return what the readers of files raise for a file that is damaged or cannot be read."""
    with suppress(ImportError):
        return OSError, EOFError, zlib.error, _zstandard().ZstdError
    return OSError, EOFError, zlib.error


def _in_file(path: Path, encoding: str | None) -> FileText:
    plain = _unpacked(path) if path.suffix.lower() in PACKED else path
    try:
        return document(plain)
    except UnicodeDecodeError as error:
        with plain.open("rb") as file:
            raise not_in(encoding, path, file.read(error.end), error) from None


def document(path: Path) -> FileText:
    """Return the text of a file in UTF-8 where it lies, without a byte-order mark.

    Raises:
        UnicodeDecodeError: the file is not UTF-8.
    """
    marks = count_characters(path)
    with path.open("rb") as file:
        marked = file.read(3) == b"\xef\xbb\xbf"
    return FileText(path, marks, int(marked))


def _unpacked(path: Path) -> Path:
    """Unpack a file into the cache folder, where it is not there yet, and return the file there."""

    def write(file: IO[bytes]) -> None:
        with _packed(path) as packed:
            while content := _block(path, packed):
                file.write(content)

    return written_once(sha256(repr(stated(path)).encode()).hexdigest()[:32], write)


def written_once(key: str, write: Callable[[IO[bytes]], None]) -> Path:
    """Return a text file of the cache folder, which is written where it is not there yet.

    Args:
        key: name of the file, a digest of what it is made of.
        write: writes the text into an open file.

    Raises:
        DataError: the file cannot be written.
    """
    target = cache_root() / "texts" / f"{key}.txt"
    with unwritable():
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone(target.with_suffix(".lock")):
            mark_used(target)
            if target.exists():
                return target
            make_room(target.parent)
            scratch = target.with_suffix(f".{os.getpid()}.tmp")
            try:
                with scratch.open("wb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(scratch, target)
            finally:
                scratch.unlink(missing_ok=True)
    return target


def _packed(path: Path) -> IO[bytes]:
    try:
        return _opened(path)
    except OSError as error:  # it is not the cache that cannot be written
        raise unreadable(path, error) from None


def _block(path: Path, packed: IO[bytes]) -> bytes:
    try:
        return packed.read(2**22)
    except _faults() as error:
        raise unreadable(path, error) from None
