"""Checks of a loaded data set, and the digest that identifies its contents.

Imports no torch, and serves images and texts alike.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.columns.filetext import FileText, remembered
from tfcli.data.columns.splits import labels_of
from tfcli.data.common.entries import composed
from tfcli.data.common.printable import printable
from tfcli.data.common.rows import Columns, height, pick, taken, unpicked
from tfcli.errors import DataError

_SAMPLED = 10_000  # most files of which names and sizes go into the digest; in larger sets they are evenly spaced
_DRAWN = 1_000  # most rows whose contents go into the digest


def check_classes(name: str, classes: list[str], given: int | None) -> None:
    """Check that there are at least two classes, and as many as the config says.

    Raises:
        DataError: the number of classes is wrong.
    """
    if given is not None and given != len(classes):
        raise DataError(
            f"`data.num_classes` is {given}, but {name} has {len(classes)} classes "
            f"({_some(classes)}). Leave data.num_classes out, or point data.root at the right set."
        )
    if len(classes) < 2:
        raise DataError(f"{name} has {len(classes)} class ({_some(classes)}): a classifier needs at least 2.")


def check_splits(name: str, found: Mapping[str, Collection[str]], *, mend: str) -> None:
    """Check that every split has the same labels as train; another spelling (`0`, `0.0`) is another class.

    Args:
        name: name of the data set.
        found: the labels of each split.
        mend: advice that ends the error message.

    Raises:
        DataError: a label occurs in only one of two splits.
    """
    train = set(found["train"])
    for split, labels in found.items():
        only = {"train": sorted(train - set(labels)), split: sorted(set(labels) - train)}
        parts = [f"only in {where}: {_some(names, 10)}" for where, names in only.items() if names]
        if parts:
            raise DataError(
                f"{name}: train has {len(train)} classes and {split} has {len(set(labels))}, and they differ: "
                f"{'; '.join(parts)}. Labels are never re-indexed: {mend}."
            )


def check_known(name: str, classes: Sequence[str], known: Sequence[str], *, run: str) -> None:
    """Check that a run is evaluated on the classes that it was trained on, in the same order.

    Args:
        name: name of the data set.
        classes: the classes of the data set.
        known: the classes of the run.
        run: name of the run, for the message.

    Raises:
        DataError: the classes or their order differ.
    """
    here, there = list(map(composed, classes)), list(map(composed, known))
    if here != there:
        order = ", in another order," if sorted(here) == sorted(there) else ""
        raise DataError(
            f"{name} has the classes {_some(here, 10)}, but {run} was trained on others{order}: {_some(there, 10)}. "
            "Its answers mean nothing there: name the set that it was trained on, or train on this one."
        )


def check_scores(name: str, scores: Sequence[float]) -> None:
    """Check that the training scores of a regression are not all equal.

    Raises:
        DataError: all scores are equal.
    """
    if min(scores) == max(scores):
        raise DataError(f"{name}: every training score is {scores[0]:g}: there is nothing to learn from them.")


def similar_label_notes(name: str, classes: Sequence[str]) -> list[str]:
    """Return a note where labels differ only in case or white space: they may be meant as one class."""
    alike: dict[str, list[str]] = {}
    for label in classes:
        alike.setdefault("".join(label.split()).casefold(), []).append(label)
    pairs = [", ".join(f"`{printable(label)}`" for label in labels) for labels in alike.values() if len(labels) > 1]
    shown = "; ".join(pairs[:5]) + ("; ..." if len(pairs) > 5 else "")
    return [f"{name}: labels that differ in case or spaces alone are classes of their own: {shown}"] if pairs else []


def untrained_notes(name: str, classes: Sequence[str], labels: Collection[int] | np.ndarray) -> list[str]:
    """Return a note where classes have no training sample."""
    without = [classes[i] for i in sorted(set(range(len(classes))) - set(np.unique(np.asarray(labels)).tolist()))]
    return [f"{name}: {len(without)} classes have no training sample: {_some(without)}"] if without else []


def check_labels(name: str, splits: Mapping[str, Columns], classes: Sequence[str]) -> None:
    """Check that every label of an image is the index of a class.

    Raises:
        DataError: a label is out of range; the message names the first such image.
    """
    for split, rows in splits.items():
        labels = labels_of(rows)
        wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
        if len(wrong):
            image = rows["image"]
            sample = printable(image.paths[wrong[0]]) if isinstance(image, FileColumn) else f"number {wrong[0]}"
            raise DataError(
                f"{name}, {split}: the label of {sample} is {labels[wrong[0]]}, "
                f"outside 0..{len(classes) - 1} ({len(wrong):,} such samples)."
            )


def check_heights(name: str, splits: Mapping[str, Columns]) -> None:
    """Check that all columns of a split have the same length.

    Raises:
        DataError: the columns of a split differ in length.
    """
    for split, rows in splits.items():
        counts = {column: len(cells) for column, cells in rows.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count:,} of {column}" for column, count in counts.items())
            raise DataError(f"{name}, {split}: columns differ in length: {told}.")


def subset_notes(name: str, splits: Mapping[str, Columns], official: Mapping[str, int] | None) -> list[str]:
    """Return a note for each split that has not the official number of images, so that results do not compare."""
    return [
        f"{name}: {height(rows):,} {split} images here, {official[split]:,} officially: results are not comparable"
        for split, rows in splits.items()
        if official and split in official and official[split] != height(rows)
    ]


def image_digest(name: str, classes: Any, splits: Mapping[str, Columns], parts: Mapping[str, Columns]) -> str:
    """Return a digest of labelled or captioned images, equal for equal data in any folder.

    The digest covers the names and sizes of files (at most 10,000 evenly spaced ones), the pixels of arrays (at most
    1,000 evenly spaced images), and the captions of the same images.

    Args:
        name: name of the data set.
        classes: names of the classes.
        splits: the splits from the source.
        parts: the rows of these splits that are used.
    """
    digest = hashlib.sha256(repr((name, classes)).encode("utf-8", "surrogateescape"))
    origins = {id(unpicked(rows["image"])[0]): split for split, rows in splits.items()}
    for split in sorted(parts):
        rows = parts[split]
        inner, positions = unpicked(rows["image"])
        digest.update(repr((split, origins[id(inner)], len(positions))).encode())
        digest.update(np.ascontiguousarray(positions, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(labels_of(rows), dtype="<i8").tobytes())
        contents = hashlib.sha256()
        _add(contents, rows["image"])
        if "caption" in rows:
            step = _step(positions, _SAMPLED if isinstance(inner, FileColumn) else _DRAWN)
            texts = taken(pick(rows["caption"], np.arange(len(positions))[::step]))
            contents.update(repr(texts).encode("utf-8", "surrogateescape"))
        digest.update(contents.digest())
    return digest.hexdigest()


def table_digest(rows: Columns) -> str:
    """Return a digest of a table, equal for equal data.

    The digest covers lists as a whole, files as in `image_digest`, and at most 1,000 evenly spaced rows of other
    columns.
    """
    large = [cell.key for column in rows.values() if isinstance(column, list) for cell in column if _is_large(cell)]
    if large:
        small = {name: [None if _is_large(cell) else cell for cell in column] for name, column in rows.items()}
        return remembered("digest", [large, small], lambda: _sha256(_json(rows)))
    plain = {name: column if isinstance(column, list) else _digest(column) for name, column in rows.items()}
    return _sha256([json.dumps(plain, sort_keys=True)])


def _is_large(cell: Any) -> bool:
    return isinstance(cell, FileText)


def _sha256(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode())
    return digest.hexdigest()


def _json(rows: Mapping[str, list[Any]]) -> Iterator[str]:
    """Yield in parts what `json.dumps` returns, sorted, for lists with texts of files."""
    for number, name in enumerate(sorted(rows)):
        yield f"{', ' if number else '{'}{json.dumps(name)}: ["
        for place, cell in enumerate(rows[name]):
            yield ", " if place else ""
            if isinstance(cell, FileText):
                yield from chain(['"'], (json.dumps(block)[1:-1] for block in cell.blocks()), ['"'])
            else:
                yield json.dumps(cell, sort_keys=True)
        yield "]"
    yield "}"


def _digest(column: Any) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(unpicked(column)[1], dtype="<i8").tobytes())
    _add(digest, column)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, column: Any) -> None:
    """Add a column to a digest: the names and sizes of files, or at most 1,000 evenly spaced rows."""
    inner, rows = unpicked(column)
    if isinstance(inner, FileColumn):
        for path in (inner.paths[row] for row in rows[:: _step(rows, _SAMPLED)]):
            size = path.stat().st_size if path.exists() else -1
            digest.update(os.fsencode(path.name) + b"\0" + str(size).encode() + b"\0")
    elif len(rows):
        found = inner.take(rows[:: _step(rows, _DRAWN)])
        digest.update(np.ascontiguousarray(found).tobytes() if isinstance(found, np.ndarray) else repr(found).encode())


def _step(rows: np.ndarray, most: int) -> int:
    """Return the smallest step that takes at most `most` evenly spaced rows."""
    return max(1, -(-len(rows) // most))


def _some(classes: list[str], most: int = 4) -> str:
    shown = ", ".join(printable(c) for c in classes[:most])
    return shown + (", ..." if len(classes) > most else "")
