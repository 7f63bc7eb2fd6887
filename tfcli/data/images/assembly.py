"""From what a source found to splits that serve batches: carved, decoded, unusable images left out, recognisable."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tfcli.data.columns.checks import fingerprint
from tfcli.data.columns.items import Items, Loaded
from tfcli.data.columns.splits import carve
from tfcli.data.common.workers import Ranks
from tfcli.data.images.cache import Bad, Policy, Store, store_files
from tfcli.data.images.imageset import ImageSet
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
        seed: of the augmentation.
        mixes: give training batches a seed for MixUp or CutMix.
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
    seed: int
    mixes: bool


@dataclass
class Split:
    """One split, ready.

    Attributes:
        images: its batches.
        items: what the source gave.
        positions: (N,) which of `items` the samples are.
    """

    images: ImageSet
    items: Items
    positions: np.ndarray

    def texts(self, rows: np.ndarray | None = None) -> list[list[str]]:
        """The captions of some samples, of all by default."""
        assert self.items.captions is not None
        return self.items.captions.take(self.positions if rows is None else self.positions[rows])


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
        stores, result.bad, said = store_files(
            files,
            name=recipe.name,
            resize=recipe.resize,
            mode=recipe.cache,
            policy=recipe.policy,
            ranks=recipe.ranks,
        )
        notes.extend(said)
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
    images = ImageSet(
        pixels,
        rows,
        items.labels[positions],
        transform=recipe.train if split == "train" else recipe.evaluation,
        seed=recipe.seed,
        mixes=split == "train" and recipe.mixes,
        skip=recipe.policy.on_error == "skip",
    )
    return Split(images, items, positions)
