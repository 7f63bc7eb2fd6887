"""Splits that a set does not bring, and limits: seeded, of images class by class, documented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.common.counter_rng import hash64
from tfcli.data.common.picked import Picked, pick
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns, height, picked
from tfcli.data.common.splitnames import SPLITS
from tfcli.errors import ConfigError, nearest


@dataclass(frozen=True)
class SplitSettings:
    """Settings by which a set is parted.

    Args:
        fractions: of val and test, the share of train that is set aside where they are missing.
        seed: of what is drawn.
        limits: most rows of each split; None: all.
        test_split: the split that is tested, where the set has several.
    """

    fractions: Mapping[str, float]
    seed: int
    limits: Mapping[str, int | None]
    test_split: str = "test"


def of_images(splits: Mapping[str, Columns]) -> bool:
    """Return whether rows are images with a label or captions, and nothing else: these are parted class by class."""
    rows = next(iter(splits.values()), {})
    return "image" in rows and rows.keys() <= {"image", "label", "caption"}


def labels_of(rows: Columns) -> np.ndarray:
    """Return the label (N,) of each row; -1 where rows have none."""
    return np.asarray(rows.get("label", np.full(height(rows), -1)), dtype=np.int64)


def stratified(labels: np.ndarray, *, number: int, seed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """Part the samples of each class in proportion: (kept, taken), sorted positions that do not overlap.

    Each class gives the whole part of its share; what is missing to `number` comes from the classes with the largest
    remainders. A class never gives its last sample, so fewer than `number` may be taken.

    Args:
        labels: (N,) class of each sample.
        number: how many to take.
        seed, purpose: equal ones take equal samples; `purpose` keeps a test split apart from a validation split.
    """
    classes, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    share = sizes * (min(number, len(labels)) / max(len(labels), 1))
    quota = np.minimum(np.floor(share + 1e-9).astype(int), sizes - 1)
    for c in np.argsort(-(share - quota), kind="stable"):
        if quota.sum() >= number:
            break
        if quota[c] < sizes[c] - 1:
            quota[c] += 1
    words = hash64(seed, purpose, np.arange(len(labels)))
    taken = np.zeros(len(labels), dtype=bool)
    for c in range(len(classes)):
        members = np.flatnonzero(inverse == c)
        taken[members[np.argsort(words[members], kind="stable")[: quota[c]]]] = True
    return np.flatnonzero(~taken), np.flatnonzero(taken)


def stratified_sample(labels: np.ndarray, *, number: int, seed: int, purpose: str) -> np.ndarray:
    """Return at most `number` positions, stratified where there are enough for every class, else simply drawn."""
    count = len(labels)
    if number >= count:
        return np.arange(count)
    if number >= len(np.unique(labels)):
        _, taken = stratified(labels, number=number, seed=seed, purpose=purpose)
        if len(taken) == number:
            return taken
    words = hash64(seed, purpose, np.arange(count))
    return np.sort(np.argsort(words, kind="stable")[:number])


def carve_test(splits: dict[str, Columns], request: Request, notes: list[str], *, lacking: str) -> dict[str, Columns]:
    """Return the splits of a set of image files with a test split taken from train, as it has none; a note says so.

    Args:
        splits: as the source has them.
        request: the share and the seed.
        notes: the note is added to these.
        lacking: what the set has none of, for the note.
    """
    whole = splits["train"]
    how, number = ", stratified" if "label" in whole else "", round(request.test_fraction * height(whole))
    parts = stratified(labels_of(whole), number=number, seed=request.split_seed, purpose="test")
    kept, taken = ({name: _files(column, rows) for name, column in whole.items()} for rows in parts)
    notes.append(
        f"{request.name}: no {lacking}; {height(taken):,} of {height(whole):,} images set aside{how} "
        f"(data.test_fraction={request.test_fraction:g}, data.split_seed={request.split_seed})"
    )
    return splits | {"train": kept, "test": taken}


def _files(column: Any, rows: np.ndarray) -> Any:
    """Return a column of some rows that stands by itself: its digest does not tell that there were more."""
    if isinstance(column, FileColumn):
        return FileColumn([column.paths[row] for row in rows], column.read)
    return pick(column, rows)


def make_splits(
    name: str, splits: Mapping[str, Columns], settings: SplitSettings
) -> tuple[dict[str, Columns], list[str]]:
    """Return the tables of train, val and test, and what to tell the user.

    Splits are the set's own. What is missing is set aside from train: of images val alone, class by class; of others
    val and test, rows at random, or of a few long documents their ends. Nothing ever comes from test.

    Args:
        name: of the set.
        splits: by its source.
        settings: by which.

    Raises:
        ConfigError: there is no such `test_split`.
    """
    images, test, seed = of_images(splits), settings.test_split, settings.seed
    if test not in ("test", *splits) and not images:  # whose source reads it
        further = [split for split in splits if split not in ("train", "val")]
        raise ConfigError(
            f"{name} has no split `{test}`.{nearest(test, further)} "
            f"There are {', '.join(further) or 'none besides train and val'}."
        )
    named = {"train": "train", "val": "val", "test": test if test in splits else "test"}
    tables = {split: splits[theirs] for split, theirs in named.items() if theirs in splits}
    part, notes = _carved_by_class if images else carved, list[str]()
    for split in ("val",) if images else ("test", "val"):
        fraction = settings.fractions[split]
        if split in tables or not fraction or "train" not in tables:
            continue
        tables["train"], tables[split], words = part(tables["train"], fraction, seed=seed, to=split)
        what, more = ("validation", f", data.split_seed={seed}") if images else (split, "")
        notes.append(f"{name}: no {what} split of its own; {words} (data.{split}_fraction={fraction:g}{more})")
    if images:
        limit = partial(_limited_by_class, seed=seed)
        return {s: limit(tables[s], settings.limits[s], split=s) for s in SPLITS if s in tables}, notes
    return {s: limited(tables[s], settings.limits[s], seed=seed) for s in SPLITS if s in tables}, notes


def _carved_by_class(rows: Columns, fraction: float, *, seed: int, to: str) -> tuple[Columns, Columns, str]:
    """Part images as `carved` parts rows, class by class."""
    labels = labels_of(rows)
    kept, taken = stratified(labels, number=round(fraction * len(labels)), seed=seed, purpose=to)
    return picked(rows, kept), picked(rows, taken), f"{len(taken):,} of {len(labels):,} training images set aside"


def _limited_by_class(rows: Columns, number: int | None, *, seed: int, split: str) -> Columns:
    """Limit images as `limited` limits rows, class by class."""
    if number is None:
        return rows
    return picked(rows, stratified_sample(labels_of(rows), number=number, seed=seed, purpose=f"limit {split}"))


def items(rows: Columns) -> np.ndarray:
    """Return a number (N,) for each row, the same for rows that share an item of another table: a question's image."""
    pointers = [column.rows for column in rows.values() if isinstance(column, Picked)]
    return min(pointers, key=lambda rows: len(np.unique(rows)), default=np.arange(height(rows)))


def limited(rows: Columns, number: int | None, *, seed: int) -> Columns:
    """Return at most so many rows in their own order, drawn by `seed`; all that share an item come before others."""
    if number is None or number >= height(rows):
        return rows
    words = hash64(seed, "limit", items(rows))
    return picked(rows, np.sort(np.argsort(words, kind="stable")[:number]))


FEW = 20
"""Rows below which running text is split inside its documents."""


def carved(rows: Columns, fraction: float, *, seed: int, to: str) -> tuple[Columns, Columns, str]:
    """Part a split: what stays, what is taken, and how it was done in words.

    Of many rows some are drawn, those with the same context or the same item of another table together; of a few
    documents each gives its end, from the beginning of a line on.
    """
    count = height(rows)
    if count < FEW and set(rows) == {"text"}:
        cuts = [_line_start(text, round(len(text) * (1 - fraction))) for text in rows["text"]]
        kept = [text[:cut] for text, cut in zip(rows["text"], cuts, strict=True)]
        ends = [text[cut:] for text, cut in zip(rows["text"], cuts, strict=True)]
        taken = sum(map(len, ends))
        return {"text": kept}, {"text": ends}, f"the last {taken:,} of {taken + sum(map(len, kept)):,} characters"
    first: dict[Any, int] = {}
    shared = rows["context"] if "context" in rows else items(rows).tolist()
    groups = np.array([first.setdefault(item, len(first)) for item in shared])
    order = np.argsort(hash64(seed, to, groups), kind="stable")
    number = round(fraction * count)
    while 0 < number < count and groups[order[number]] == groups[order[number - 1]]:
        number += 1
    kept_rows, taken_rows = np.sort(order[number:]), np.sort(order[:number])
    return picked(rows, kept_rows), picked(rows, taken_rows), f"{number:,} of {count:,} rows drawn from train"


def _line_start(text: str, near: int) -> int:
    """The beginning of the line after a place in a text; the place itself in a text without lines."""
    return text.find("\n", near) + 1 or near
