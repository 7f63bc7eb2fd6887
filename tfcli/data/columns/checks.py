"""Conditions that a set of any kind must satisfy before anything is built on it, and the digest that recognises it.

Imports no torch: tables and folders are checked here alike.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.columns.items import Items, Loaded
from tfcli.data.common.entries import composed
from tfcli.data.common.picked import unpicked
from tfcli.data.common.printable import printable
from tfcli.data.common.rows import Columns
from tfcli.errors import DataError

_SAMPLED = 10_000  # files whose sizes go into the fingerprint: all of them on most sets, evenly drawn on the largest


def check_classes(name: str, classes: list[str], given: int | None) -> None:
    """At least two classes, and as many as the config says.

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
    """Every split has the labels of train: one that is written otherwise (`0`, `0.0`) would be another class.

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
    """A run is measured on data with the classes that it was trained on, in their order.

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
    """The training scores of a regression are not all the same.

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


def check_labels(name: str, loaded: Loaded) -> None:
    """Every label names a class.

    Raises:
        DataError: with the first sample whose label does not.
    """
    for split, items in loaded.splits.items():
        if items.files is not None and len(items.files) != len(items.labels):
            raise DataError(f"{name}, {split}: {len(items.files)} files but {len(items.labels)} labels.")
        wrong = np.flatnonzero((items.labels < 0) | (items.labels >= len(loaded.classes)))
        if len(wrong):
            sample = printable(items.files[wrong[0]]) if items.files is not None else f"number {wrong[0]}"
            raise DataError(
                f"{name}, {split}: the label of {sample} is {items.labels[wrong[0]]}, "
                f"outside 0..{len(loaded.classes) - 1} ({len(wrong):,} such samples)."
            )


def check_captions(name: str, loaded: Loaded) -> None:
    """Every image of the captioned splits has a caption.

    Raises:
        DataError: there are no such splits, or their lists differ in length.
    """
    if not loaded.pairs:
        raise DataError(f"{name} has no captions.")
    for split, items in loaded.pairs.items():
        count = 0 if items.captions is None else len(items.captions)
        if count != len(items) or (items.files is not None and len(items.files) != count):
            raise DataError(f"{name}, {split}: {len(items)} images but captions of {count}.")


def subset_notes(name: str, loaded: Loaded, official: dict[str, int] | None) -> list[str]:
    """A note for each split whose number of samples is not the official one: published figures are of another set."""
    return [
        f"{name}: {len(items):,} {split} images here, {official[split]:,} officially: results are not comparable"
        for split, items in loaded.found.items()
        if official and split in official and official[split] != len(items)
    ]


def fingerprint(name: str, classes: list[str], loaded: Loaded, rows: dict[str, tuple[str, np.ndarray]]) -> str:
    """Hex digest of names, labels, sizes and splits: equal for equal data, whatever the folder they are in.

    Files are told apart by name and size (10,000 evenly drawn ones on larger sets), arrays by shape and a thousand
    evenly drawn images, captions by their texts (of the same images).
    """
    digest = hashlib.sha256(repr((name, classes)).encode("utf-8", "surrogateescape"))
    for split in sorted(rows):
        origin, positions = rows[split]
        items = loaded.splits[origin]
        digest.update(repr((split, origin, len(positions))).encode())
        digest.update(np.ascontiguousarray(positions, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(items.labels[positions], dtype="<i8").tobytes())
        digest.update(_contents(items, positions))
    return digest.hexdigest()


def table_digest(rows: Columns) -> str:
    """Hex digest of a table: equal for equal data.

    Lists are told apart by all that they hold, files as in `fingerprint`, others by a thousand evenly drawn rows.
    """
    plain = {name: column if isinstance(column, list) else _digest(column) for name, column in rows.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _digest(column: Any) -> str:
    inner, rows = unpicked(column)
    digest = hashlib.sha256(np.ascontiguousarray(rows, dtype="<i8").tobytes())
    if isinstance(inner, FileColumn):
        _add_files(digest, [inner.paths[row] for row in rows[:: _step(rows, _SAMPLED)]])
    elif len(rows):
        found = inner.take(rows[:: _step(rows, 1000)])
        digest.update(np.ascontiguousarray(found).tobytes() if isinstance(found, np.ndarray) else repr(found).encode())
    return digest.hexdigest()


def _contents(items: Items, positions: np.ndarray) -> bytes:
    digest = hashlib.sha256()
    step = _step(positions, 1000 if items.files is None else _SAMPLED)
    if items.files is not None:
        _add_files(digest, [items.files[position] for position in positions[::step]])
    elif items.pixels is not None and len(positions):
        digest.update(np.ascontiguousarray(items.pixels.take(positions[::step])).tobytes())
    if items.captions is not None:
        digest.update(repr(items.captions.take(positions[::step])).encode("utf-8", "surrogateescape"))
    return digest.digest()


def _step(rows: np.ndarray, most: int) -> int:
    """Return how far apart rows are of which at most so many are drawn evenly."""
    return max(1, -(-len(rows) // most))


def _add_files(digest: hashlib._Hash, paths: Sequence[Path]) -> None:
    """Add names and sizes of files to a digest."""
    for path in paths:
        size = path.stat().st_size if path.exists() else -1
        digest.update(os.fsencode(path.name) + b"\0" + str(size).encode() + b"\0")


def _some(classes: list[str], most: int = 4) -> str:
    shown = ", ".join(printable(c) for c in classes[:most])
    return shown + (", ..." if len(classes) > most else "")
