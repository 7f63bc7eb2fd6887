"""Seeded splits for data sets that lack one, and limits on the number of rows; images are stratified by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.common.counter_rng import hash64
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns, Picked, height, pick, picked
from tfcli.data.common.splitnames import SPLITS
from tfcli.errors import ConfigError, nearest


@dataclass(frozen=True)
class SplitSettings:
    """Settings for the splits of a data set.

    Args:
        fractions: fraction of train that is set aside for val or test where the data set lacks this split.
        seed: seed of the random choice.
        limits: largest number of rows in each split; None means all.
        test_split: name of the test split, where the data set has several.
    """

    fractions: Mapping[str, float]
    seed: int
    limits: Mapping[str, int | None]
    test_split: str = "test"


def of_images(splits: Mapping[str, Columns]) -> bool:
    """Return whether the columns are images with only a label or captions; these are split class by class."""
    rows = next(iter(splits.values()), {})
    return "image" in rows and rows.keys() <= {"image", "label", "caption"}


def labels_of(rows: Columns) -> np.ndarray:
    """Return the label of each row, (N,) int64; -1 where the table has no labels."""
    return np.asarray(rows.get("label", np.full(height(rows), -1)), dtype=np.int64)


def stratified(labels: np.ndarray, *, number: int, seed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """Split samples at random in proportion to their classes.

    The quotas of the classes follow the largest-remainder method. A class always keeps at least one sample, so that
    fewer than `number` samples may be taken.

    Args:
        labels: (N,) class of each sample.
        number: number of samples to take.
        seed, purpose: determine the choice; two purposes ("val", "test") choose independently of each other.

    Returns:
        The positions that are kept and those that are taken, both sorted.
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
    """Return at most `number` random positions, stratified by class where every class can have one."""
    count = len(labels)
    if number >= count:
        return np.arange(count)
    if number >= len(np.unique(labels)):
        _, taken = stratified(labels, number=number, seed=seed, purpose=purpose)
        if len(taken) == number:
            return taken
    words = hash64(seed, purpose, np.arange(count))
    return np.sort(np.argsort(words, kind="stable")[:number])


def take_test_split(
    splits: dict[str, Columns], request: Request, notes: list[str], *, lacking: str
) -> dict[str, Columns]:
    """Return the splits with a test split that is taken from train, for a data set of images that has none.

    Args:
        splits: the splits from the source.
        request: has the test fraction and the seed.
        notes: list to which a note about the split is added.
        lacking: what the data set lacks, for the note ("test folder").
    """
    whole = splits["train"]
    how, number = ", stratified" if "label" in whole else "", round(request.test_fraction * height(whole))
    parts = stratified(labels_of(whole), number=number, seed=request.split_seed, purpose="test")
    kept, taken = ({name: _files(column, rows) for name, column in whole.items()} for rows in parts)
    if number:
        notes.append(
            f"{request.name}: no {lacking}; {height(taken):,} of {height(whole):,} images set aside{how} "
            f"(data.test_fraction={request.test_fraction:g}, data.split_seed={request.split_seed})"
        )
    return splits | {"train": kept, "test": taken}


def _files(column: Any, rows: np.ndarray) -> Any:
    """Return some rows as an independent column, so that its digest does not depend on the other rows."""
    if isinstance(column, FileColumn):
        return FileColumn([column.paths[row] for row in rows], column.read)
    return pick(column, rows)


def make_splits(
    name: str, splits: Mapping[str, Columns], settings: SplitSettings
) -> tuple[dict[str, Columns], list[str]]:
    """Return the tables of train, val and test, and notes for the user.

    The splits of the data set are kept. A missing split is set aside from train: for images only val, stratified by
    class; for other data val and test, by random rows, or the ends of the documents where there are few. Rows of test
    are never moved to another split.

    Args:
        name: name of the data set.
        splits: the splits from the source.
        settings: fractions, seed and limits.

    Raises:
        ConfigError: there is no split of the name `test_split`.
    """
    images, test, seed = of_images(splits), settings.test_split, settings.seed
    if test not in ("test", *splits) and not images:  # the source of images chooses its own test split
        further = [split for split in splits if split not in ("train", "val")]
        raise ConfigError(
            f"{name} has no split `{test}`.{nearest(test, further)} "
            f"There are {', '.join(further) or 'none besides train and val'}."
        )
    named = {"train": "train", "val": "val", "test": test if test in splits else "test"}
    tables = {split: splits[theirs] for split, theirs in named.items() if theirs in splits}
    part, notes = _split_off_by_class if images else split_off, list[str]()
    for split in ("val",) if images else ("test", "val"):
        fraction = settings.fractions[split]
        if split in tables or not fraction or "train" not in tables:
            continue
        tables["train"], tables[split], words = part(tables["train"], fraction, seed=seed, to=split)
        if not height(tables[split]):
            continue
        what, more = ("validation", f", data.split_seed={seed}") if images else (split, "")
        notes.append(f"{name}: no {what} split of its own; {words} (data.{split}_fraction={fraction:g}{more})")
    if images:
        limit = partial(_limited_by_class, seed=seed)
        return {s: limit(tables[s], settings.limits[s], split=s) for s in SPLITS if s in tables}, notes
    return {s: limited(tables[s], settings.limits[s], seed=seed) for s in SPLITS if s in tables}, notes


def _split_off_by_class(rows: Columns, fraction: float, *, seed: int, to: str) -> tuple[Columns, Columns, str]:
    """Split images as `split_off` does, but stratified by class."""
    labels = labels_of(rows)
    kept, taken = stratified(labels, number=round(fraction * len(labels)), seed=seed, purpose=to)
    return picked(rows, kept), picked(rows, taken), f"{len(taken):,} of {len(labels):,} training images set aside"


def _limited_by_class(rows: Columns, number: int | None, *, seed: int, split: str) -> Columns:
    """Limit images as `limited` does, but stratified by class."""
    if number is None:
        return rows
    return picked(rows, stratified_sample(labels_of(rows), number=number, seed=seed, purpose=f"limit {split}"))


def items(rows: Columns) -> np.ndarray:
    """Return a group number (N,) for each row, equal for rows that share an item, such as the image of questions."""
    pointers = [column.rows for column in rows.values() if isinstance(column, Picked)]
    return min(pointers, key=lambda rows: len(np.unique(rows)), default=np.arange(height(rows)))


def limited(rows: Columns, number: int | None, *, seed: int) -> Columns:
    """Return at most `number` random rows in their original order; rows that share an item are taken together."""
    if number is None or number >= height(rows):
        return rows
    words = hash64(seed, "limit", items(rows))
    return picked(rows, np.sort(np.argsort(words, kind="stable")[:number]))


FEW = 20
"""Tables of running text with fewer documents than this are split inside the documents."""


def split_off(rows: Columns, fraction: float, *, seed: int, to: str) -> tuple[Columns, Columns, str]:
    """Split a fraction off a table.

    The rows are random; rows with the same context or the same item of another table stay together. Of a few long
    documents, the end of each is split off, from the beginning of a line.

    Returns:
        The rest, the part that is split off, and a description of it for the user.
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
    """Return the beginning of the next line after a position in a text; the position itself where no line follows."""
    return text.find("\n", near) + 1 or near
