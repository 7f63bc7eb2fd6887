"""Source of synthetic scenes of coloured shapes, with the columns that a task needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np

from tfcli.bounds import Bounds, Count, Natural
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns, Picked
from tfcli.data.synthetic.columns import SceneTable
from tfcli.data.synthetic.objects import COLOURS, MOST_OBJECTS, PAIR_NAMES, QUADRANTS, SHAPES
from tfcli.data.synthetic.questions import ANSWERS
from tfcli.data.synthetic.shapes import FEWEST, ShapesWorld
from tfcli.data.synthetic.shifts import Shift
from tfcli.data.synthetic.splits import SPLITS
from tfcli.errors import ConfigError

Kind = Literal["labelled", "captioned", "plain"]
"""Kinds of scenes; see `Shapes`."""
OWN: dict[str, tuple[Kind, ...]] = {
    "comp": ("labelled", "plain"),
    "comp_rel": ("captioned", "plain"),
    "len": ("captioned",),
}
"""Kinds of scenes that a further split has, where it does not have all; for other kinds, `test` is used."""
ABOUT = {
    "comp_rel": "captions and questions",
    "comp_count": "captions, questions and data.label=count",
    "len": "captions",
}
"""Columns for which these splits differ from `test`, in words."""
OBJECTS: dict[Kind, str] = {"labelled": "objects", "captioned": "caption_objects", "plain": "scene_objects"}
"""Names of the settings for the number of objects in a scene."""
LABELLED, CAPTIONED = ("image", "label"), ("image", "caption")
"""Columns of labelled and captioned images; labelled images are also evaluated beside captioned ones."""
ASKED = ("question", "answer", "program", "support")
"""Columns with several rows per scene."""
LISTS = ("label", "question", "answer")
"""Columns that are generated when loading, and on which the digest depends."""
CLASSES = {"answer": ANSWERS, "truth": ("false", "true"), "mask": ("background", *PAIR_NAMES)}
"""Names of the classes of columns other than `label`."""
_CHUNK = 4096


class Shapes:
    """Source `data=shapes`: synthetic scenes of coloured shapes with the columns of a request (see `columns.GIVEN`).

    The requested columns determine the kind of scenes. Labelled scenes have one object, except for label=count and
    label=quadrant. Captioned scenes have up to `caption_objects` objects and five captions for training; in evaluation
    they have all the objects and one caption, because a caption of one object fits many scenes. For the same reason
    evaluation has only 512 of them, among which the right caption is mostly unique. Without labels or captions, scenes
    are plain, with one to `scene_objects` objects and `questions` questions each. Captions never name a held-out pair.

    Args:
        size: side of an image, in pixels.
        seed: seed of the scenes, independent of the seed of the run.
        texture: noise on objects and background; without it colours are flat.
        label: colour, shape or pair of the only object; count of up to `objects` objects; or quadrant, which of the
            four has the circle (among `objects` objects) and which a bag of patches cannot determine.
        objects: number of objects in a labelled scene, 1..4.
        cross: with label=quadrant, width of a cross of four colours between the quadrants, in pixels, as a landmark.
        num_train, num_val, num_test: number of scenes in each split; `num_train` also for captioned scenes.
        num_pairs: number of captioned scenes in validation and in test.
        caption_objects: number of objects in a captioned scene, 1..4.
        scene_objects: largest number of objects in a plain scene, 1..4.
        questions: number of questions about each plain scene.
        test_split: scenes of the test split; see `tfcli.data.synthetic.splits`. Training then omits what `comp_rel` and
            `comp_count` test.
        shift: change of the test images in comparison with training; see `tfcli.data.synthetic.shifts`.

    Raises:
        ConfigError: the scenes do not determine the label, or do not allow the test split or the shift.
    """

    def __init__(
        self,
        *,
        size: Count = 32,
        objects: Annotated[int, Bounds(low=1, high=4)] = 1,
        seed: Natural = 0,
        texture: bool = True,
        label: Literal["colour", "shape", "pair", "count", "quadrant"] = "pair",
        cross: Natural = 0,
        num_train: Count = 20_000,
        num_val: Count = 2_000,
        num_test: Count = 2_000,
        num_pairs: Count = 512,
        caption_objects: Annotated[int, Bounds(low=1, high=4)] = 2,
        scene_objects: Annotated[int, Bounds(low=1, high=4)] = 4,
        questions: Count = 4,
        test_split: Literal[
            "test", "comp", "comp_rel", "comp_count", "len", "robust_outline", "robust_texture", "robust_background",
            "robust_noise", "robust_blur", "robust_scale",
        ] = "test",
        shift: Shift = "none",
    ):  # fmt: skip
        if label == "count" and objects < 2:
            raise ConfigError(f"data.label=count needs data.objects of at least 2, but it is {objects}.")
        if label not in ("count", "quadrant") and objects != 1:
            raise ConfigError(
                f"data.label={label} names one object, but data.objects is {objects}. Use 1, or another data.label."
            )
        if cross and label != "quadrant":
            raise ConfigError(f"data.cross={cross} stands between quadrants: it needs data.label=quadrant.")
        if label == "quadrant" and (size - cross < 16 or (size - cross) % 2):
            raise ConfigError(
                "data.label=quadrant needs an even number of at least 16 pixels beside the cross, but data.image_size "
                f"less data.cross is {size - cross}."
            )
        if "none" not in (shift, SPLITS[test_split].shift):
            raise ConfigError(f"data.test_split={test_split} and data.shift={shift} both change pictures: take one.")
        if "texture" in (shift, SPLITS[test_split].shift) and not texture:
            raise ConfigError(
                "stripes are drawn in place of noise (shift=texture), but data.texture=false has neither. Leave it out."
            )
        self.size, self.seed, self.texture, self.cross, self.shift = size, seed, texture, cross, shift
        self.label, self.questions, self.test_split = label, questions, test_split
        self.objects: dict[Kind, int] = {"labelled": objects, "captioned": caption_objects, "plain": scene_objects}
        self.counts = {"train": num_train, "val": num_val, "test": num_test}
        self.pair_counts = {"train": num_train, "val": num_pairs, "test": num_pairs}

    @property
    def classes(self) -> list[str]:
        """Names of the classes in label order."""
        counts = [str(i + 1) for i in range(self.objects["labelled"])]
        names = {"colour": COLOURS, "shape": SHAPES, "pair": PAIR_NAMES, "count": counts, "quadrant": QUADRANTS}
        return list(names[self.label])

    def locate(self, request: Request) -> str:
        return "generated"

    def load(self, request: Request) -> LoadedTables:
        """Generate labels and questions; other columns are generated on demand.

        Raises:
            ConfigError: scenes of this kind do not have the test split, or have too few objects for it.
        """
        kind, wanted = _requested(request)
        if request.columns and not self._has(kind) and self.test_split != "comp":
            raise ConfigError(
                f"data.test_split={self.test_split} is for {ABOUT[self.test_split]}, but what is asked for is "
                f"{', '.join(wanted)}. Leave it out, or choose another task."
            )
        beside: dict[str, Columns] = {}
        if wanted == CAPTIONED:
            beside = {split: self._columns("labelled", split, LABELLED) for split in self.counts}
        classes = {"label": self.classes, **CLASSES}
        named = {name: list(classes[name]) for name in classes if name in wanted or (name == "label" and beside)}
        splits = {split: self._columns(kind, split, wanted) for split in self.counts}
        if wanted not in (LABELLED, CAPTIONED):
            splits[self.test_split] = splits.pop("test")
        return LoadedTables(splits, named, self._notes(request.name, kind), beside=beside)

    # ---- scenes

    def _has(self, kind: Kind) -> bool:
        """Return whether the test split has scenes of its own for a kind, other than those of `test`."""
        if self.test_split == "comp_count":
            return kind != "labelled" or self.label == "count"
        return kind in OWN.get(self.test_split, OBJECTS)

    def _table(self, kind: Kind, split: str, *, per_scene: int = 1) -> SceneTable:
        """Return the scenes of a split."""
        rules, most = self.test_split if split == "test" and self._has(kind) else split, self.objects[kind]
        if self._has(kind) and most < FEWEST.get(SPLITS[self.test_split].new, 1) and self.test_split != "len":
            raise ConfigError(
                f"data.test_split={self.test_split} is about scenes of several objects, but data.{OBJECTS[kind]} is "
                f"{most}. Make it at least 2."
            )
        if rules == "len":
            most = MOST_OBJECTS
        elif split != "test" and self.test_split == "comp_count" and self._has(kind):
            most -= 1
        labelled = kind == "labelled"
        world = ShapesWorld(
            self.size,
            k=most,
            seed=self.seed,
            texture=self.texture,
            vary=self.label == "count" if labelled else kind == "plain" or split == "train",
            quadrants=labelled and self.label == "quadrant",
            cross=self.cross if labelled else 0,
            shift=self.shift if split == "test" else "none",
            hold_relations=self.test_split == "comp_rel",
        )
        count = (self.pair_counts if kind == "captioned" else self.counts)[split]
        return SceneTable(world, split=rules, count=count, per_scene=per_scene, label=self.label)

    def _notes(self, name: str, kind: Kind) -> list[str]:
        notes = []
        if self.test_split == "comp":
            notes.append(f"{name}: tested on pairs of colour and shape that training never shows (test_split=comp)")
        elif self.test_split == "len" and kind == "captioned":
            notes.append(f"{name}: tested on captions of 15 to 25 words, which model.text.context=32 reads whole")
        elif self._has(kind) and self.test_split != "test":
            notes.append(f"{name}: tested on scenes that differ from those of training (test_split={self.test_split})")
        if self.shift != "none":
            notes.append(f"{name}: tested on pictures that are drawn otherwise (shift={self.shift})")
        return notes

    # ---- columns

    def _columns(self, kind: Kind, split: str, names: Sequence[str]) -> Columns:
        several = self.questions if set(ASKED) & set(names) else 1
        scenes, asked = self._table(kind, split), self._table(kind, split, per_scene=several)
        owner = asked.scene_of(np.arange(len(asked)))
        lists = _listed(self._table(kind, split, per_scene=several), [name for name in LISTS if name in names])

        def column(name: str) -> Any:
            if name in lists:
                return np.array(lists[name], dtype=np.int64) if name == "label" else lists[name]
            if name in ASKED or several == 1:
                return asked.column(name)
            return Picked(scenes.column(name), owner)

        return {name: column(name) for name in names}


def _requested(request: Request) -> tuple[Kind, tuple[str, ...]]:
    """Return the kind of scenes and the columns of a request; the default is labelled images."""
    wanted = request.columns or tuple(request.facts.get("columns", LABELLED))
    if "label" in wanted and (not request.columns or set(wanted) <= set(LABELLED)):
        return "labelled", LABELLED
    if "caption" in wanted:
        return "captioned", CAPTIONED if set(wanted) <= set(CAPTIONED) else wanted
    return "labelled" if "label" in wanted else "plain", wanted


def _listed(table: SceneTable, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return whole columns as lists; all columns of some rows are taken in turn, since they share the scenes."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    for start in range(0, len(table) if names else 0, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(table)))
        for name in names:
            cells = table.column(name).take(rows)
            found[name].extend(cells.tolist() if isinstance(cells, np.ndarray) else cells)
    return found
