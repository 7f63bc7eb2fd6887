"""Documents too large for memory, read from their files piece by piece. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from tfcli.data.common.printable import printable
from tfcli.errors import DataError
from tfcli.files import cache_root, is_full, write_atomic

PIECE = 2**17
"""Largest number of characters in a piece, unless a line is longer."""
_BLOCK = 2**22
_INSIDE = re.compile(r"\S\n\S")


class FileText:
    """A document, or a run of its characters, in a file of UTF-8. It is sliced like a `str`, and reads nothing then.

    Args:
        path: the file.
        marks: number of characters before each block of the file, and in all of it; see `count_characters`.
        start, stop: first character, and the one after the last; by default all.
        within: the bytes of the file between which these characters lie; by default they are searched for.
    """

    def __init__(
        self,
        path: Path,
        marks: Sequence[int] | np.ndarray,
        start: int = 0,
        stop: int | None = None,
        *,
        within: tuple[int, int] | None = None,
    ):
        self.path, self.marks, self.within = path, np.asarray(marks, dtype=np.int64), within
        self.start, self.stop = start, int(self.marks[-1]) if stop is None else stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> FileText:
        start, stop, _ = part.indices(len(self))
        return FileText(self.path, self.marks, self.start + start, self.start + max(start, stop))

    def __str__(self) -> str:
        return "".join(self.blocks())

    def find(self, letter: str, near: int) -> int:
        """Return the first place of a character from a place on, as `str.find`."""
        for block in self[near:].blocks():
            found = block.find(letter)
            if found >= 0:
                return near + found
            near += len(block)
        return -1

    def blocks(self) -> Iterator[str]:
        """Yield the text in parts of a few megabytes."""
        first, last = self.within or (self._byte(self.start), self._byte(self.stop))
        rest = b""
        with self._opened() as file:
            file.seek(first)
            while first < last:
                content = file.read(min(_BLOCK, last - first))
                if not content:
                    raise DataError(
                        f"{printable(self.path)} has become shorter while it was read; run the command again."
                    )
                first, content = first + len(content), rest + content
                whole = len(content) if first == last else _whole(content)
                yield content[:whole].decode("utf-8")
                rest = content[whole:]

    def lines(self) -> Iterator[str]:
        """Yield what `str.split` returns for line breaks."""
        rest = ""
        for block in self.blocks():
            *whole, rest = (rest + block).split("\n")
            yield from whole
        yield rest

    def documents(self, begins: Sequence[tuple[int, int]]) -> list[FileText]:
        """Return the text cut before some lines, without the line break before each.

        Args:
            begins: for each document the number of characters and of bytes before it; of the first both are 0.
        """
        first, last = self._byte(self.start), self._byte(self.stop)
        places = [(self.start + characters, first + size) for characters, size in begins]
        ends = [(character - 1, byte - 1) for character, byte in places[1:]] + [(self.stop, last)]
        return [
            FileText(self.path, self.marks, start, stop, within=(begin, end))
            for (start, begin), (stop, end) in zip(places, ends, strict=True)
        ]

    def _byte(self, character: int) -> int:
        """Return the byte of the file at which a character begins."""
        block = min(int(np.searchsorted(self.marks, character, side="right")), len(self.marks) - 1) - 1
        with self._opened() as file:
            file.seek(block * _BLOCK)
            content = np.frombuffer(file.read(_BLOCK), dtype=np.uint8)
        begins, place = np.flatnonzero(content & 0xC0 != 0x80), character - int(self.marks[block])
        return block * _BLOCK + (int(begins[place]) if place < len(begins) else len(content))

    def _opened(self) -> IO[bytes]:
        try:
            return open(self.path, "rb")
        except OSError as error:
            raise DataError(f"{printable(self.path)} cannot be read any more: {error.strerror}.") from None

    @property
    def key(self) -> list[Any]:
        """Path, size and time of the file, and the characters: equal keys have equal contents."""
        return [*stated(self.path), self.start, self.stop]


def _whole(content: bytes) -> int:
    """Return the number of bytes before the last character that may be incomplete."""
    end = len(content)
    while end and content[end - 1] & 0xC0 == 0x80:
        end -= 1
    return max(0, end - 1)


def stated(path: Path) -> list[Any]:
    """Return path, size and time of a file, which change when its contents do."""
    facts = path.stat()
    return [str(path.absolute()), facts.st_size, facts.st_mtime_ns]


def count_characters(path: Path) -> list[int]:
    """Return the number of characters before each block of a file of UTF-8, and in all of it; see `FileText`.

    Raises:
        UnicodeDecodeError: the file is not UTF-8; `start` counts from the beginning of the file.
    """

    def count() -> list[int]:
        marks, rest, done = [0], b"", 0
        with open(path, "rb") as file:
            while content := file.read(_BLOCK):
                marks.append(marks[-1] + int(np.count_nonzero(np.frombuffer(content, np.uint8) & 0xC0 != 0x80)))
                content = rest + content
                whole = _whole(content)
                _check(content[:whole], done)
                done, rest = done + whole, content[whole:]
        _check(rest, done)
        return marks

    return remembered("characters", [*stated(path), _BLOCK], count)


def _check(content: bytes, begin: int) -> None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnicodeDecodeError("utf-8", error.object, begin + error.start, begin + error.end, error.reason) from None


def remembered(what: str, key: Any, compute: Callable[[], Any]) -> Any:
    """Return a value of large files, computed once and kept in the cache folder.

    Args:
        what: name of the value.
        key: what the value depends on; JSON.
        compute: returns the value; JSON.

    Raises:
        DataError: the value cannot be written.
    """
    name = hashlib.sha256(json.dumps([what, key]).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    path = cache_root() / "texts" / f"{name}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = compute()
    with unwritable():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(found))
    return found


@contextmanager
def unwritable() -> Iterator[None]:
    """Turn an OSError of writing into a DataError about the cache of texts."""
    try:
        yield
    except OSError as error:
        why = "the disk is full" if is_full(error) else error.strerror or str(error)
        raise DataError(
            f"The cache of texts in {cache_root()} cannot be written: {why}. Free some space, or choose another folder "
            "with TFCLI_CACHE."
        ) from None


def pieces(text: str | FileText) -> Iterator[str]:
    """Yield a text in pieces; a short text is one piece.

    A piece ends with a line after which another begins at once, or, where there is none in twice `PIECE` characters,
    with a line or anywhere.
    """
    blocks = (
        text.blocks() if isinstance(text, FileText) else (text[i : i + _BLOCK] for i in range(0, len(text), _BLOCK))
    )
    rest = ""
    for block in blocks:
        rest, begin = rest + block, 0
        while len(rest) - begin >= 2 * PIECE:
            end = _end(rest, begin, begin + 2 * PIECE)
            yield rest[begin:end]
            begin = end
        rest = rest[begin:]
    if rest:
        yield rest


def sample(texts: Sequence[str | FileText], most: int) -> list[str]:
    """Return all texts where they have at most `most` characters together, else every n-th of their pieces."""
    step = -(-sum(map(len, texts)) // most)
    if step <= 1:
        return [str(text) for text in texts]
    every = (piece for text in texts for piece in pieces(text))
    return list(islice(every, 0, None, step))


def _end(text: str, begin: int, most: int) -> int:
    """Return the place after the last good line break between two places, preferring what is near the middle."""
    for low in ((begin + most) // 2, begin):
        found = _INSIDE.search(text, low, most)
        if found:
            return found.end() - 1
    return text.rfind("\n", begin, most) + 1 or most
