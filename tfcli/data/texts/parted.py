"""A set of texts parted into train, val and test."""

from __future__ import annotations

from collections.abc import Mapping

from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.rows import Columns, carved, limited
from tfcli.errors import ConfigError, nearest

SPLITS = ("train", "val", "test")


def parted(
    name: str,
    loaded: LoadedTables,
    *,
    test_split: str,
    fractions: Mapping[str, float],
    limits: Mapping[str, int | None],
    seed: int,
) -> tuple[dict[str, Columns], list[str]]:
    """Return the table of each split, and what to tell the user.

    Splits are the set's own; what is missing of validation and test is set aside, rows at random, or of a few long
    documents their ends.

    Args:
        name: of the set.
        loaded: by its source.
        test_split: the split that is tested, where the set has several.
        fractions: of val and test, the share of train that is set aside where they are missing.
        limits: most rows of each split; None: all.
        seed: of what is drawn.

    Raises:
        ConfigError: there is no such `test_split`.
    """
    splits, notes = dict(loaded.splits), []
    if test_split != "test" and test_split not in splits:
        further = [split for split in splits if split not in ("train", "val")]
        raise ConfigError(
            f"{name} has no split `{test_split}`.{nearest(test_split, further)} "
            f"There are {', '.join(further) or 'none besides train and val'}."
        )
    splits = {k: v for k, v in splits.items() if k in ("train", "val")} | (
        {"test": splits[test_split]} if test_split in splits else {}
    )
    for split in ("test", "val"):
        if split not in splits and fractions[split]:
            splits["train"], splits[split], note = carved(splits["train"], fractions[split], seed=seed, to=split)
            notes.append(f"{name}: no {split} split of its own; {note} (data.{split}_fraction={fractions[split]:g})")
    return {s: limited(splits[s], limits[s], seed=seed) for s in SPLITS if s in splits}, notes
