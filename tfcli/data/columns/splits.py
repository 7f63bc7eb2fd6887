"""Splits that a set does not bring: seeded, stratified, documented."""

from __future__ import annotations

import numpy as np

from tfcli.data.columns.items import Items, Loaded
from tfcli.data.common.counter_rng import hash64
from tfcli.data.common.request import Request

Rows = dict[str, tuple[str, np.ndarray]]
"""For each split: the source's split it comes from, and which of its samples."""


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


def limited(labels: np.ndarray, *, number: int | None, seed: int, purpose: str) -> np.ndarray:
    """At most `number` positions, stratified where there are enough samples for every class, else simply drawn."""
    count = len(labels)
    if number is None or number >= count:
        return np.arange(count)
    if number >= len(np.unique(labels)):
        _, taken = stratified(labels, number=number, seed=seed, purpose=purpose)
        if len(taken) == number:
            return taken
    words = hash64(seed, purpose, np.arange(count))
    return np.sort(np.argsort(words, kind="stable")[:number])


def carve_test(splits: dict[str, Items], request: Request, notes: list[str], *, lacking: str) -> dict[str, Items]:
    """The splits of a set of files with a test split taken from train, as it has none; a note says so.

    Args:
        splits: as the source has them.
        request: the share and the seed.
        notes: the note is added to these.
        lacking: what the set has none of, for the note.
    """
    whole = splits["train"]
    how = ", stratified" if (whole.labels >= 0).all() else ""
    number = round(request.test_fraction * len(whole))
    kept, taken = stratified(whole.labels, number=number, seed=request.split_seed, purpose="test")
    notes.append(
        f"{request.name}: no {lacking}; {len(taken):,} of {len(whole):,} images set aside{how} "
        f"(data.test_fraction={request.test_fraction:g}, data.split_seed={request.split_seed})"
    )
    return splits | {"train": whole.picked(kept), "test": whole.picked(taken)}


def carve(
    name: str, loaded: Loaded, *, val_fraction: float, split_seed: int, limits: dict[str, int | None]
) -> tuple[Rows, list[str]]:
    """The splits to work with, and what to tell the user.

    A source without a validation split gives `val_fraction` of its training split; nothing ever comes from test.
    `limits` then keep at most so many samples of each split.
    """
    rows = {split: (split, np.arange(len(items))) for split, items in loaded.splits.items()}
    notes = []
    if "val" not in rows and val_fraction > 0 and "train" in rows:
        labels = loaded.splits["train"].labels
        number = round(val_fraction * len(labels))
        kept, taken = stratified(labels, number=number, seed=split_seed, purpose="val")
        rows |= {"train": ("train", kept), "val": ("train", taken)}
        notes.append(
            f"{name}: no validation split of its own; {len(taken):,} of {len(labels):,} training images "
            f"set aside (data.val_fraction={val_fraction:g}, data.split_seed={split_seed})"
        )
    for split, (origin, positions) in rows.items():
        labels = loaded.splits[origin].labels[positions]
        chosen = limited(labels, number=limits.get(split), seed=split_seed, purpose=f"limit {split}")
        rows[split] = (origin, positions[chosen])
    return rows, notes
