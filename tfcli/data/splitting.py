"""From what a source loaded to the table of each split: checked, parted, decoded, recognisable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from tfcli.data.columns import checks
from tfcli.data.columns.items import Loaded
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.picked import taken
from tfcli.data.common.rows import Columns, height
from tfcli.data.images.assembly import Recipe, Split, assemble, with_images
from tfcli.data.images.cache import Bad
from tfcli.data.images.spatial import PICTURES
from tfcli.data.texts.parted import parted
from tfcli.errors import ConfigError, DataError


@dataclass
class Tables:
    """The splits of a set.

    Attributes:
        rows: the table of each split that is served.
        labelled: labelled images, which may be others.
        fingerprint, fingerprints: digests of all, and of each split.
        bad: unusable image files, and why.
        notes: what to tell the user.
    """

    rows: dict[str, Columns] = field(default_factory=dict)
    labelled: dict[str, Split] = field(default_factory=dict)
    fingerprint: str = ""
    fingerprints: dict[str, str] = field(default_factory=dict)
    bad: Bad = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, loaded: Loaded, recipe: Recipe) -> dict[str, Split]:
        """Assemble and return the splits of a set of images."""
        done = assemble(loaded, recipe)
        self.bad += done.bad
        self.notes += done.notes
        # With both kinds: of the run all, of a split alone its labelled samples, which frozen features are made of.
        whole = (self.fingerprint + done.fingerprint).encode()
        self.fingerprint = sha256(whole).hexdigest() if self.fingerprint else done.fingerprint
        self.fingerprints = done.fingerprints | self.fingerprints
        return done.splits


def _check_unmixed(recipe: Recipe, what: str, repeats: int, why: str) -> None:
    """Refuse MixUp, CutMix and copies of images where these have no single label."""
    if recipe.mixes:
        raise ConfigError(f"data.augment.mixup and .cutmix cannot mix {what}. Set both to 0.")
    if repeats > 1:
        raise ConfigError(f"data.augment.repeats: repeated augmentation {why}. Set it to 1.")


def split_images(
    loaded: Loaded, recipe: Recipe, *, captions: bool, given: int | None, official: dict[str, int] | None, repeats: int
) -> Tables:
    """Return the splits of a set of images: of labelled ones, and where captions are wanted, of captioned ones.

    Args:
        loaded: by its source.
        recipe: how they are split and kept.
        captions: whether captioned images are served.
        given: how many classes the config says there are.
        official: how many samples of each split the set has.
        repeats: copies of an image in a batch.

    Raises:
        ConfigError: mixtures or copies of images with captions.
        DataError, PolicyStop: the set is unusable or not what the config says.
    """
    name, found = recipe.name, Tables(notes=checks.subset_notes(recipe.name, loaded, official))
    if loaded.splits:
        checks.check_classes(name, loaded.classes, given)
        checks.check_labels(name, loaded)
        found.labelled = found.add(loaded, recipe)
        found.notes += checks.like_notes(name, [] if given else loaded.classes)
        if "train" in found.labelled:
            labels = found.labelled["train"].table["label"]
            found.notes += checks.untrained_notes(name, loaded.classes, labels)
    served = found.labelled
    if captions:
        why = "does not work with a contrastive loss: copies of one image would count as negatives"
        _check_unmixed(recipe, "captions", repeats, why)
        checks.check_captions(name, loaded)
        served = found.add(loaded.captioned(), recipe)
    found.rows = {split: s.table for split, s in served.items()}
    _check_train(name, found, "image", "data.limit_train and the set's folder")
    return found


def split_tables(
    loaded: LoadedTables,
    recipe: Recipe,
    *,
    test_split: str,
    fractions: Mapping[str, float],
    given: int | None,
    repeats: int,
) -> Tables:
    """Return the splits of a set of plain columns; see `tfcli.data.texts.parted.parted`.

    Args:
        loaded: by its source.
        recipe: how images are kept, where there are any.
        test_split, fractions: as in `parted`.
        given: how many classes the config says there are.
        repeats: copies of an image in a batch.

    Raises:
        ConfigError: there is no such `test_split`; mixtures or copies of images.
        DataError, PolicyStop: the set is unusable or not what the config says.
    """
    name, found = recipe.name, Tables()
    if loaded.classes:
        checks.check_classes(name, loaded.classes, given)
        found.notes += checks.like_notes(name, [] if given else loaded.classes)
    found.rows, notes = parted(
        name, loaded, test_split=test_split, fractions=fractions, limits=recipe.limits, seed=recipe.split_seed
    )
    found.notes += notes
    found.fingerprints = {split: checks.table_digest(rows) for split, rows in found.rows.items()}
    found.fingerprint = sha256(json.dumps([found.fingerprints, loaded.classes]).encode()).hexdigest()
    if any(name in found.rows["train"] for name in PICTURES):
        _check_unmixed(recipe, "images without a label of their own", repeats, "is for labelled images")
        found.rows, found.bad, notes = with_images(found.rows, recipe)
        found.notes += notes
    _check_train(name, found, "row", "data.limit_train")
    found.notes += _target_notes(name, found.rows["train"], loaded.classes)
    return found


def _check_train(name: str, found: Tables, unit: str, where: str) -> None:
    if not height(found.rows.get("train", {})):
        raise DataError(f"{name}: no {unit} is left to train on. Look at {where}.")


def _target_notes(name: str, rows: Columns, classes: Sequence[str]) -> list[str]:
    """Refuse scores that teach nothing; note classes that no training row has."""
    if "score" in rows:
        checks.check_scores(name, rows["score"])
    target = next((column for column in ("label", "answer") if column in rows), None)
    return checks.untrained_notes(name, classes, taken(rows[target])) if target and classes else []
