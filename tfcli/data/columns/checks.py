"""Conditions that a set of any kind must satisfy before anything is built on it, and the digest that recognises it.

Imports no torch: tables and folders are checked here alike.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.columns.splits import labels_of
from tfcli.data.common.entries import composed
from tfcli.data.common.picked import pick, taken, unpicked
from tfcli.data.common.printable import printable
from tfcli.data.common.rows import Columns, height
from tfcli.errors import DataError

_SAMPLED = 10_000  # files whose sizes go into the fingerprint: all of them on most sets, evenly drawn on the largest
_DRAWN = 1_000  # rows of which the contents go into it


def check_classes(name: str, classes: list[str], given: int | None) -> None:
    """Check that there are at least two classes, and as many as the config says.

    Raises:
        DataError: with both numbers.
    """
    if given is not None and given != len(classes):
        raise DataError(
            f"`data.num_classes` is {given}, but {name} has {len(classes)} classes "
            f"({_some(classes)}). Leave data.num_classes out, or point data.root at the right set."
        )
    if len(classes) < 2:
        raise DataError(f"{name} has {len(classes)} class ({_some(classes)}): a classifier needs at least 2.")


def check_splits(name: str, found: Mapping[str, Collection[str]], *, mend: str) -> None:
    """Check that every split has the labels of train: one that is written otherwise (`0`, `0.0`) is another class.

    Args:
        name: of the set.
        found: the labels of each split.
        mend: how to do it right, for the message.

    Raises:
        DataError: with the labels that only one of two splits has.
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
    """Check that a run is measured on data with the classes that it was trained on, in their order.

    Args:
        name: of the set.
        classes: its classes.
        known: those of the run.
        run: what the run is called.

    Raises:
        DataError: with both lists.
    """
    here, there = list(map(composed, classes)), list(map(composed, known))
    if here != there:
        order = ", in another order," if sorted(here) == sorted(there) else ""
        raise DataError(
            f"{name} has the classes {_some(here, 10)}, but {run} was trained on others{order}: {_some(there, 10)}. "
            "Its answers mean nothing there: name the set that it was trained on, or train on this one."
        )


def check_scores(name: str, scores: Sequence[float]) -> None:
    """Check that the training scores of a regression are not all the same.

    Raises:
        DataError: with the score.
    """
    if min(scores) == max(scores):
        raise DataError(f"{name}: every training score is {scores[0]:g}: there is nothing to learn from them.")


def like_notes(name: str, classes: Sequence[str]) -> list[str]:
    """Return a note for labels that differ in case or white space alone: they may be one class."""
    alike: dict[str, list[str]] = {}
    for label in classes:
        alike.setdefault("".join(label.split()).casefold(), []).append(label)
    pairs = [", ".join(f"`{printable(label)}`" for label in labels) for labels in alike.values() if len(labels) > 1]
    shown = "; ".join(pairs[:5]) + ("; ..." if len(pairs) > 5 else "")
    return [f"{name}: labels that differ in case or spaces alone are classes of their own: {shown}"] if pairs else []


def untrained_notes(name: str, classes: Sequence[str], labels: Collection[int] | np.ndarray) -> list[str]:
    """Return a note where classes have no training sample at all."""
    without = [classes[i] for i in sorted(set(range(len(classes))) - set(np.unique(np.asarray(labels)).tolist()))]
    return [f"{name}: {len(without)} classes have no training sample: {_some(without)}"] if without else []


def check_labels(name: str, splits: Mapping[str, Columns], classes: Sequence[str]) -> None:
    """Check that every label of images names a class.

    Raises:
        DataError: with the first image whose label does not.
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
    """Check that all columns of a split are of the same length.

    Raises:
        DataError: with those of the first that are not.
    """
    for split, rows in splits.items():
        counts = {column: len(cells) for column, cells in rows.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count:,} of {column}" for column, count in counts.items())
            raise DataError(f"{name}, {split}: columns differ in length: {told}.")


def subset_notes(name: str, splits: Mapping[str, Columns], official: Mapping[str, int] | None) -> list[str]:
    """Return a note for each split whose number of images is not the official one: published figures are of others."""
    return [
        f"{name}: {height(rows):,} {split} images here, {official[split]:,} officially: results are not comparable"
        for split, rows in splits.items()
        if official and split in official and official[split] != height(rows)
    ]


def image_digest(name: str, classes: Any, splits: Mapping[str, Columns], parts: Mapping[str, Columns]) -> str:
    """Return a digest of labelled or captioned images: equal for equal data, whatever the folder they are in.

    Files are told apart by name and size (10,000 evenly drawn ones on larger sets), arrays by shape and a thousand
    evenly drawn images, captions by their texts (of the same images).

    Args:
        name: of the set.
        classes: names of its labels.
        splits: as the source gave them.
        parts: the rows of them that are served.
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
    """Return a digest of a table: equal for equal data.

    Lists are told apart by all that they hold, files as in `image_digest`, others by a thousand evenly drawn rows.
    """
    plain = {name: column if isinstance(column, list) else _digest(column) for name, column in rows.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _digest(column: Any) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(unpicked(column)[1], dtype="<i8").tobytes())
    _add(digest, column)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, column: Any) -> None:
    """Add what a column holds to a digest: of files names and sizes, of others a thousand evenly drawn rows."""
    inner, rows = unpicked(column)
    if isinstance(inner, FileColumn):
        for path in (inner.paths[row] for row in rows[:: _step(rows, _SAMPLED)]):
            size = path.stat().st_size if path.exists() else -1
            digest.update(os.fsencode(path.name) + b"\0" + str(size).encode() + b"\0")
    elif len(rows):
        found = inner.take(rows[:: _step(rows, _DRAWN)])
        digest.update(np.ascontiguousarray(found).tobytes() if isinstance(found, np.ndarray) else repr(found).encode())


def _step(rows: np.ndarray, most: int) -> int:
    """Return how far apart rows are of which at most so many are drawn evenly."""
    return max(1, -(-len(rows) // most))


def _some(classes: list[str], most: int = 4) -> str:
    shown = ", ".join(printable(c) for c in classes[:most])
    return shown + (", ..." if len(classes) > most else "")
