"""Samples of a set as people look at them: which columns, which rows, and what each cell holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig

from tfcli.data.common.rows import Columns, height
from tfcli.data.images.decode import BadImage
from tfcli.data.images.drawings import DRAWINGS, Classes, Sample
from tfcli.data.images.imageset import Images, file_of, reader
from tfcli.data.images.pictures import PICTURES
from tfcli.data.images.preview import beside_of, spelled, spread
from tfcli.data.images.spatial import KINDS, MisfitError, check_sizes
from tfcli.data.module import DataModule
from tfcli.errors import ConfigError, DataError, nearest

ORDINARY = (("image", "label"), ("image", "caption"))
"""Columns that are shown where none are named, of sets that have more."""
WHOLE = {"cache": "none", "decode_size": 100_000}
"""Settings with which images keep their size, so that boxes fit them."""


def chosen(given: Collection[str], asked: str | None) -> list[str]:
    """Return the columns to be shown.

    Args:
        given: by the set.
        asked: for, separated by commas; `all`; or None.

    Raises:
        ConfigError: the set does not give such a column.
    """
    if asked is None:
        return list(next((few for few in ORDINARY if set(few) <= set(given)), given))
    names = list(given) if asked == "all" else [name.strip() for name in asked.split(",")]
    for name in names:
        if name not in given:
            raise ConfigError(f"There is no column `{name}`.{nearest(name, given)} There are {', '.join(given)}.")
    return names


def settings_for(config: DictConfig, columns: Sequence[str], *, augmented: bool) -> list[str]:
    """Return further settings of a set, under which its columns can be drawn over each other."""
    if augmented or drawn(columns) == ["image"]:
        return ["data.cache=none"]
    return [f"data.{key}={value}" for key, value in WHOLE.items() if key in config]


def drawn(columns: Sequence[str]) -> list[str]:
    """Return the columns that are drawn, and not told in words."""
    return [name for name in columns if name in DRAWINGS]


def samples(module: DataModule, split: str, columns: Sequence[str], count: int, *, augmented: bool) -> list[Any]:
    """Return the cells of some rows of a split, with the number of each: classes in turn, or rows evenly drawn.

    Images that are drawn alone are as models see them; beside other columns, as they are in their files.

    Args:
        module: of the set, not yet prepared.
        split: train, val or test.
        columns: those that are shown.
        count: rows, at most.
        augmented: as training sees them in its first epoch.

    Raises:
        ConfigError: a column that training does not move with its image.
        DataError: there is no such split, a file cannot be read, or it has another size than its image.
    """
    needed = beside_of(columns).union(columns)
    module.needs = tuple(name for name in module.columns if name in needed)
    module.prepare()
    if not height(module.rows.get(split, {})):
        there = [name for name in module.rows if height(module.rows[name])]
        raise DataError(
            f"{module.name} has no split `{split}`, only {', '.join(there)}.{nearest(split, there)} "
            "Further ones are tested with data.test_split=NAME."
        )
    table = {n: c for n, c in module.rows[split].items() if n in needed or n not in module.columns}
    rows = np.unique(np.linspace(0, height(table) - 1, count).astype(np.int64))
    if "label" in table:
        rows = spread(np.asarray(table["label"]), count)
    if augmented:
        seen, rows = _augmented(module, table, rows, drawn(columns))
    else:
        seen, rows = _plain_images(module, table, rows, alone=drawn(columns) == ["image"])
    read = {name: reader(column, rows) for name, column in table.items() if name not in seen[0]}
    found = [
        {"row": int(row), **seen[i], **{name: value(i) for name, value in read.items()}} for i, row in enumerate(rows)
    ]
    for sample in () if augmented or drawn(columns) == ["image"] else found:
        try:
            check_sizes(sample)
        except MisfitError as error:
            path = file_of(table[error.column], sample["row"])
            raise (
                DataError(str(error)) if path is None else BadImage(path, f"the {error.column} {error.reason}")
            ) from None
    return found


def _plain_images(
    module: DataModule, table: Columns, rows: np.ndarray, *, alone: bool
) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """Return the image of each row, where there are any, and the rows whose images can be used."""
    images = table.get("image")
    if not isinstance(images, Images):
        return [{}] * len(rows), rows

    def look(image: np.ndarray, position: int) -> dict[str, np.ndarray]:
        return {"image": module.eval_transform.one(image).permute(1, 2, 0).numpy() if alone else image}

    found, kept, _ = images.each(rows, look)
    return found, rows[kept]


def _augmented(
    module: DataModule, table: Columns, rows: np.ndarray, names: Sequence[str]
) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """Return what training moves with each image or clip, as it does, and the rows whose images can be used."""
    lead = next((name for name in ("image", "clip") if isinstance(table.get(name), Images)), "")
    still = [name for name in names if name not in KINDS]
    if still or not lead:
        raise ConfigError(
            f"--augmented shows columns that training moves with an image ({', '.join(KINDS)}), not "
            f"{', '.join(still or table)}. Leave it out, or name others by --columns."
        )
    others = {name: column for name, column in table.items() if name in KINDS and name != lead}
    found, rows, _ = table[lead].together(lead, rows, others, seed=module.seed, epoch=0)
    moved = [
        {name: np.moveaxis(part.numpy(), -3, -1) if name in PICTURES else part.numpy() for name, part in sample.items()}
        for sample in found
    ]
    return moved, rows


def in_words(found: Sequence[Sample], columns: Sequence[str], classes: Classes) -> list[dict[str, Any]]:
    """Return what is not drawn of samples, classes by their names: for a table or a document.

    Args:
        found: the samples.
        columns: those that come first, in their order.
        classes: names of the classes of each column that has some.
    """
    names = [name for name in dict.fromkeys(("row", *columns, *found[0])) if name in found[0] and name not in DRAWINGS]
    return [{name: _plain(sample[name], classes.get(name, ())) for name in names} for sample in found]


def _plain(cell: Any, classes: Sequence[str]) -> Any:
    if classes and not isinstance(cell, (list, tuple, np.ndarray)):
        return spelled(cell, classes)
    if isinstance(cell, (list, tuple)):
        return [_plain(item, classes) for item in cell]
    return cell.tolist() if isinstance(cell, (np.ndarray, np.generic)) else cell
