"""Image columns of tables: decodes the files of a source once and drops the rows of unreadable images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.tv_tensors import Video

from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.columns.splits import SplitSettings
from tfcli.data.common.rows import Columns, height, picked, unpicked
from tfcli.data.common.workers import Ranks
from tfcli.data.images.cache import Bad, Policy, Store, store_files
from tfcli.data.images.imageset import Images
from tfcli.data.images.resize import Resize
from tfcli.data.images.spatial import KINDS, PICTURES
from tfcli.data.images.transforms import EvalTransform, TrainTransform


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
        if KINDS[name] is not Video:
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
