"""The steps from a loaded data set to the tables of its splits: checks, splits, digests and decoding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from tfcli.data.columns import checks
from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.columns.splits import SplitSettings, make_splits, of_images
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.rows import Columns, height, picked, taken, unpicked
from tfcli.data.common.workers import Ranks
from tfcli.data.images.cache import Bad, Policy, Store, store_files
from tfcli.data.images.imageset import Images
from tfcli.data.images.pictures import CLIPS, PICTURES
from tfcli.data.images.resize import Resize
from tfcli.data.images.transforms import EvalTransform, TrainTransform
from tfcli.errors import ConfigError, DataError


@dataclass
class Tables:
    """The splits of a data set.

    Attributes:
        rows: the table of each split.
        fingerprint, fingerprints: digest of all splits, and of each split.
        notes: messages for the user.
        bad: unreadable image files with reasons.
        beside: tables of labelled images that are evaluated in addition to `rows`.
    """

    rows: dict[str, Columns]
    fingerprint: str
    fingerprints: dict[str, str]
    notes: list[str]
    bad: Bad = field(default_factory=list)
    beside: dict[str, Columns] = field(default_factory=dict)


def split_tables(
    loaded: LoadedTables,
    recipe: Recipe,
    *,
    target: str | None,
    given: int | None,
    official: Mapping[str, int] | None,
    repeats: int,
) -> Tables:
    """Return the checked splits of a data set; see `tfcli.data.columns.splits.make_splits`.

    Args:
        loaded: the tables from the source.
        recipe: settings of splits and images.
        target: the column whose classes are predicted; None where there is none.
        given: number of classes in the config; None accepts any number.
        official: official number of images of each split.
        repeats: copies of an image in a batch.

    Raises:
        ConfigError: there is no split of the name `test_split`; MixUp, CutMix or repeated augmentation is set for
            images without a single label.
        DataError, PolicyStop: the data set is unusable or does not match the config.
    """
    name, classes = recipe.name, loaded.classes.get(target or "", [])
    tables = loaded.beside or loaded.splits
    images = of_images(tables)
    checks.check_heights(name, loaded.splits)
    if classes:
        checks.check_classes(name, classes, given)
        if images:
            checks.check_labels(name, tables, classes)
    _check_mixtures(loaded.splits, recipe, repeats)
    beside = _prepared(loaded.beside, loaded, recipe) if loaded.beside else None
    served = _prepared(loaded.splits, loaded, recipe)
    train = served.rows.get("train", {})
    if not height(train):
        unit, more = ("image", " and the set's folder") if images else ("row", "")
        raise DataError(f"{name}: no {unit} is left to train on. Look at data.limit_train{more}.")
    if "score" in train:
        checks.check_scores(name, train["score"])
    labelled = beside or served
    labelled.notes += checks.similar_label_notes(name, [] if given else classes)
    learned = labelled.rows.get("train", {}).get(target) if target in ("label", "answer") else None
    if classes and learned is not None:
        labelled.notes += checks.untrained_notes(name, classes, taken(learned))
    if images:
        labelled.notes = checks.subset_notes(name, tables, official) + labelled.notes
    return served if beside is None else _joined(beside, served)


def _check_mixtures(splits: Mapping[str, Columns], recipe: Recipe, repeats: int) -> None:
    """Raise ConfigError for MixUp, CutMix or repeated augmentation of images without a single label."""
    rows = next(iter(splits.values()), {})
    if not rows.keys() & set(PICTURES) or (of_images(splits) and "label" in rows):
        return
    what, why = "images without a label of their own", "is for labelled images"
    if "caption" in rows:
        what = "captions"
        why = "does not work with a contrastive loss: copies of one image would count as negatives"
    if recipe.mixes:
        raise ConfigError(f"data.augment.mixup and .cutmix cannot mix {what}. Set both to 0.")
    if repeats > 1:
        raise ConfigError(f"data.augment.repeats: repeated augmentation {why}. Set it to 1.")


def _prepared(splits: Mapping[str, Columns], loaded: LoadedTables, recipe: Recipe) -> Tables:
    """Split the tables, compute their digests, and decode their images."""
    name, classes = recipe.name, loaded.classes
    known = (
        classes if len(classes) > 1 else next(iter(classes.values()), [])
    )  # a single list, so that digests of older runs stay valid
    rows, notes = make_splits(name, splits, recipe.splits)
    if of_images(splits):
        digests = {split: checks.image_digest(name, known, splits, {split: table}) for split, table in rows.items()}
        whole = checks.image_digest(name, known, splits, rows)
    else:
        digests = {split: checks.table_digest(table) for split, table in rows.items()}
        whole = sha256(json.dumps([digests, known]).encode()).hexdigest()
    found = Tables(rows, whole, digests, notes)
    if any(name in table for table in rows.values() for name in PICTURES):
        found.rows, found.bad, lines = with_images(rows, recipe)
        found.notes += lines
    return found


def _joined(labelled: Tables, served: Tables) -> Tables:
    """Combine the main tables with the labelled images beside them, from which probes take features."""
    whole = sha256((labelled.fingerprint + served.fingerprint).encode()).hexdigest()
    digests = served.fingerprints | labelled.fingerprints
    notes, bad = labelled.notes + served.notes, labelled.bad + served.bad
    return Tables(served.rows, whole, digests, notes, bad, labelled.rows)


@dataclass(frozen=True)
class Recipe:
    """Settings for splitting, decoding and transforming the images of a data set.

    Args:
        name: name of the data set.
        splits: settings of the splits.
        resize: change of size after decoding.
        cache: mode of the cache of decoded images; see `tfcli.data.images.cache`.
        policy: policy for unreadable files.
        ranks: number of this process and number of processes.
        train, evaluation: transforms.
        mixes: whether MixUp or CutMix is applied to training batches.
    """

    name: str
    splits: SplitSettings
    resize: Resize
    cache: str
    policy: Policy
    ranks: Ranks
    train: TrainTransform
    evaluation: EvalTransform
    mixes: bool

    def images(self, pixels: Any, rows: np.ndarray, *, train: bool) -> Images:
        """Return selected rows of a store, array or file column as `Images` with the right transform."""
        return Images(
            pixels,
            rows,
            transform=self.train if train else self.evaluation,
            augmented=self.train,
            mixes=train and self.mixes,
            skip=self.policy.on_error == "skip",
        )

    def store(self, files: dict[str, list[Path]]) -> tuple[dict[str, Store], Bad, list[str]]:
        """Decode files; see `store_files`."""
        how: dict[str, Any] = {"resize": self.resize, "mode": self.cache, "policy": self.policy, "ranks": self.ranks}
        return store_files(files, name=self.name, **how)


def with_images(rows: dict[str, Columns], recipe: Recipe) -> tuple[dict[str, Columns], Bad, list[str]]:
    """Decode each image of the tables once, and drop the rows of unreadable images; clips are decoded on access.

    Args:
        rows: the table of each split; the columns of `PICTURES` are files, or their `take` returns pixels.
        recipe: the settings.

    Returns:
        The tables with `Images` as these columns, the unreadable files, and notes for the user.

    Raises:
        DataError, PolicyStop: there are unreadable files, according to the recipe's policy.
    """
    held = {(split, n): unpicked(table[n]) for split, table in rows.items() for n in PICTURES if n in table}
    used: dict[int, tuple[str, Any, np.ndarray]] = {}  # by id of a column: name, column, rows
    for (split, name), (column, which) in held.items():
        own = split if name == "image" else f"{split}-{name}"
        key, _, others = used.get(id(column), (own, column, which))
        if name not in CLIPS:
            used[id(column)] = key, column, np.union1d(others, which)
    files = {
        key: [column.paths[row] for row in which]
        for key, column, which in used.values()
        if isinstance(column, FileColumn)
    }
    stores, bad, notes = recipe.store(files) if files else ({}, [], [])
    for key, store in stores.items():
        store.files = files[key]  # the original file of each image, which also has the full size for masks and boxes
    served = {}
    for split, table in rows.items():
        places, good = {}, np.ones(height(table), dtype=bool)
        for name in [name for name in PICTURES if name in table]:
            column, which = held[split, name]
            key, _, others = used.get(id(column), ("", column, which))
            if key in stores:
                column, which = stores[key], np.searchsorted(others, which)
                good &= column.good[which]
            places[name] = column, which
        kept = np.flatnonzero(good)
        pictures = {
            n: recipe.images(column, which[kept], train=split == "train") for n, (column, which) in places.items()
        }
        served[split] = (table if good.all() else picked(table, kept)) | pictures
    return served, bad, notes
