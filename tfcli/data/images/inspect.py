"""Inspection of a data set on disk: duplicates between training and test, and unreadable files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.columns.splits import of_images
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.printable import printable
from tfcli.data.common.rows import Columns, height, pick, taken, unpicked

_CHUNK = 4096
_ASIDE = ("id", "label", "score", "tags", "answer", "answers")
"""Columns that are ignored when rows are compared."""


@dataclass
class Findings:
    """Results of an inspection.

    Attributes:
        counts: number of samples in each split.
        duplicates: pairs (train, test) of samples with equal contents, by file name or by row number.
        unreadable: files that cannot be opened.
    """

    counts: dict[str, int]
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def inspect(loaded: LoadedTables) -> Findings:
    """Find equal samples of train and test by hashes of files' bytes, of arrays' pixels, or of the cells of rows."""
    findings = Findings(loaded.counts)
    digests = _images if of_images(loaded.splits) else _rows
    seen: dict[bytes, str] = {}
    for split in ("train", "test"):
        for name, digest in digests(loaded.splits[split]) if split in loaded.splits else ():
            if digest is None:
                findings.unreadable.append(name)
            elif split == "train":
                seen.setdefault(digest, name)
            elif digest in seen:
                findings.duplicates.append((seen[digest], name))
    return findings


def _rows(rows: Columns) -> Iterator[tuple[str, bytes | None]]:
    compared = [cells for name, cells in rows.items() if name not in _ASIDE]
    for row in range(height(rows)):
        try:
            cells = [_cell(column, row) for column in compared]
        except OSError as error:
            yield printable(error.filename), None
        else:
            yield str(row), hashlib.blake2b(json.dumps(cells, default=_hex).encode(), digest_size=16).digest()


def _cell(column: Any, row: int) -> Any:
    """Return a cell, or the digest of its file in a column of files."""
    one = pick(column, np.array([row]))
    inner, which = unpicked(one)
    if isinstance(inner, FileColumn):
        return hashlib.blake2b(inner.paths[which[0]].read_bytes()).hexdigest()
    return taken(one)[0]


def _images(rows: Columns) -> Iterator[tuple[str, bytes | None]]:
    images = rows["image"]
    if isinstance(images, FileColumn):
        for path in images.paths:
            try:
                yield printable(path), hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
            except OSError:
                yield printable(path), None
        return
    for start in range(0, len(images), _CHUNK):
        chunk = np.arange(start, min(start + _CHUNK, len(images)))
        for number, image in zip(chunk, images.take(chunk), strict=True):
            yield str(number), hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _hex(array: np.ndarray) -> str:
    return hashlib.blake2b(repr(array.shape).encode() + array.tobytes()).hexdigest()
