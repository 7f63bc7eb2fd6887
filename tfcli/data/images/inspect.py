"""Inspection of a data set on disk: unreadable files, and duplicates between training and test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.columns.filetext import FileText
from tfcli.data.columns.splits import of_images
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.printable import printable
from tfcli.data.common.rows import Columns, height, pick, taken, unpicked
from tfcli.data.images.spatial import MisfitError, check_sizes
from tfcli.errors import DataError

_CHUNK = 4096
_ASIDE = ("id", "label", "score", "tags", "answer", "answers")
"""Columns that are ignored when rows are compared."""


@dataclass
class Findings:
    """Results of an inspection.

    Attributes:
        counts: number of samples in each split.
        duplicates: pairs (train, test) of samples with equal contents, by file name or by row number.
        unreadable: files that cannot be decoded or do not fit their image, each with the reason.
    """

    counts: dict[str, int]
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def inspect(loaded: LoadedTables) -> Findings:
    """Decode the files of every column of all splits, and find equal samples of train and test.

    Samples are compared by hashes of files' bytes, of arrays' pixels, or of the cells of rows.
    """
    findings, bad = Findings(loaded.counts), dict[Path, str]()
    for rows in (*loaded.splits.values(), *loaded.beside.values()):
        bad |= _unreadable(rows)
    findings.unreadable = list(bad.values())
    digests = _images if of_images(loaded.splits) else _rows
    seen: dict[bytes, str] = {}
    for split in ("train", "test"):
        for name, digest in digests(loaded.splits[split], bad) if split in loaded.splits else ():
            if split == "train":
                seen.setdefault(digest, name)
            elif digest in seen:
                findings.duplicates.append((seen[digest], name))
    return findings


def _unreadable(rows: Columns) -> dict[Path, str]:
    """Return the files of a table that cannot be decoded or have another size than their image, with the reasons."""
    files = {name: unpicked(column) for name, column in rows.items()}
    files = {name: (column, which) for name, (column, which) in files.items() if isinstance(column, FileColumn)}
    found: dict[Path, str] = {}
    for sample in dict.fromkeys(zip(*(which.tolist() for _, which in files.values()), strict=True)):
        paths = {name: files[name][0].paths[row] for name, row in zip(files, sample, strict=True)}
        cells = {}
        for name, path in paths.items():
            try:
                cells[name] = files[name][0].read(path)
            except DataError as error:
                found[path] = str(error)
        try:
            check_sizes(cells)
        except MisfitError as error:
            found[paths[error.column]] = f"{printable(paths[error.column])}: the {error.column} {error.reason}"
    return found


def _rows(rows: Columns, bad: Container[Path]) -> Iterator[tuple[str, bytes]]:
    compared = [cells for name, cells in rows.items() if name not in _ASIDE]
    for row in range(height(rows)):
        cells = [_cell(column, row, bad) for column in compared]
        if None not in cells:
            yield str(row), hashlib.blake2b(json.dumps(cells, default=_hex).encode(), digest_size=16).digest()


def _cell(column: Any, row: int, bad: Container[Path]) -> Any:
    """Return a cell, or the digest of its file in a column of files: None where the file is unreadable."""
    one = pick(column, np.array([row]))
    inner, which = unpicked(one)
    if isinstance(inner, FileColumn):
        path = inner.paths[which[0]]
        return None if path in bad else hashlib.blake2b(path.read_bytes()).hexdigest()
    cell = taken(one)[0]
    return cell.key if isinstance(cell, FileText) else cell


def _images(rows: Columns, bad: Container[Path]) -> Iterator[tuple[str, bytes]]:
    images = rows["image"]
    if isinstance(images, FileColumn):
        for path in images.paths:
            if path not in bad:
                yield printable(path), hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
        return
    for start in range(0, len(images), _CHUNK):
        chunk = np.arange(start, min(start + _CHUNK, len(images)))
        for number, image in zip(chunk, images.take(chunk), strict=True):
            yield str(number), hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _hex(array: np.ndarray) -> str:
    return hashlib.blake2b(repr(array.shape).encode() + array.tobytes()).hexdigest()
