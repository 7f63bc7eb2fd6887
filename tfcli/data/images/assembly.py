"""From what a source found to splits that serve batches: carved, decoded, unusable images left out, recognisable."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tfcli.data.columns.checks import fingerprint
from tfcli.data.columns.items import Items, Loaded
from tfcli.data.columns.picked import Picked
from tfcli.data.columns.splits import carve
from tfcli.data.common.rows import Columns
from tfcli.data.common.workers import Ranks
from tfcli.data.images.cache import Bad, Policy, Store, store_files
from tfcli.data.images.imageset import Images
from tfcli.data.images.resize import Resize
from tfcli.data.images.transforms import EvalTransform, TrainTransform


@dataclass(frozen=True)
class Recipe:
    """Settings by which a set is split, kept and served.

    Args:
        name: of the set.
        val_fraction, split_seed, limits: as in `tfcli.data.columns.splits.carve`.
        resize: how decoded files are made smaller.
        cache: mode of the store of decoded files.
        policy: what to do about unusable files.
        ranks: who reads them.
        train, evaluation: transforms.
        mixes: whether training batches are to be mixed by MixUp or CutMix.
    """

    name: str
    val_fraction: float
    split_seed: int
    limits: dict[str, int | None]
    resize: Resize
    cache: str
    policy: Policy
    ranks: Ranks
    train: TrainTransform
    evaluation: EvalTransform
    mixes: bool


@dataclass
class Split:
    """One split, ready.

    Attributes:
        table: its columns: image, and what there is of label and caption.
        items: what the source gave.
        positions: (N,) which of `items` the samples are.
    """

    table: Columns
    items: Items
    positions: np.ndarray


@dataclass
class Assembled:
    """All splits, the files left out, what to tell the user, and digests of all and of each split."""

    splits: dict[str, Split]
    fingerprint: str
    fingerprints: dict[str, str]
    bad: Bad = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def assemble(loaded: Loaded, recipe: Recipe) -> Assembled:
    """Carve and decode `loaded.splits`, by the recipe.

    Raises:
        DataError, PolicyStop: by the recipe's policy.
    """
    rows, notes = carve(
        recipe.name, loaded, val_fraction=recipe.val_fraction, split_seed=recipe.split_seed, limits=recipe.limits
    )
    used: dict[str, np.ndarray] = {}
    for origin, positions in rows.values():
        if loaded.splits[origin].files is not None:
            used[origin] = np.union1d(used.get(origin, positions), positions)
    stores: dict[str, Store] = {}
    digest = partial(fingerprint, recipe.name, loaded.classes, loaded)
    result = Assembled({}, digest(rows), {s: digest({s: rows[s]}) for s in rows}, notes=notes)
    if used:
        files = {origin: [(loaded.splits[origin].files or [])[i] for i in chosen] for origin, chosen in used.items()}
        stores, result.bad, lines = store_files(
            files,
            name=recipe.name,
            resize=recipe.resize,
            mode=recipe.cache,
            policy=recipe.policy,
            ranks=recipe.ranks,
        )
        notes.extend(lines)
    for split, (origin, positions) in rows.items():
        decoded = (used[origin], stores[origin]) if origin in used else None
        result.splits[split] = _split(split, loaded.splits[origin], positions, decoded, recipe)
    return result


def _split(
    split: str, items: Items, positions: np.ndarray, decoded: tuple[np.ndarray, Store] | None, recipe: Recipe
) -> Split:
    pixels: Any = items.pixels
    rows = positions
    if decoded is not None:
        used, pixels = decoded
        rows = np.searchsorted(used, positions)
        good = pixels.good[rows]
        positions, rows = positions[good], rows[good]
    images = Images(
        pixels,
        rows,
        transform=recipe.train if split == "train" else recipe.evaluation,
        mixes=split == "train" and recipe.mixes,
        skip=recipe.policy.on_error == "skip",
    )
    table: Columns = {"image": images}
    if items.captions is None:
        table["label"] = items.labels[positions]
    else:
        table["caption"] = Picked(items.captions, positions)
    return Split(table, items, positions)
