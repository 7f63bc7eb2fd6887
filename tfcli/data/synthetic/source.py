"""The world of shapes as a set with train, validation and test splits of fixed sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np

from tfcli.bounds import Bounds, Count, Natural
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.data.synthetic.columns import SceneColumn, SceneTable
from tfcli.data.synthetic.objects import COLOURS, PAIR_NAMES, QUADRANTS, SHAPES
from tfcli.data.synthetic.shapes import ShapesWorld
from tfcli.data.synthetic.shifts import Shift
from tfcli.data.synthetic.splits import SPLITS
from tfcli.errors import ConfigError

_CHUNK = 4096


class ShapesPixels:
    """Images rendered when they are asked for, with their channels last.

    Args:
        table: of the scenes.
    """

    def __init__(self, table: SceneTable):
        self.images, self.size = SceneColumn(table, "image"), (table.world.size, table.world.size)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(B, Y, X, 3) uint8."""
        return self.images.take(rows).transpose(0, 2, 3, 1)


class ShapesCaptions:
    """Sentences made when they are asked for.

    Args:
        table: of the scenes.
        several: five sentences for each scene; else one.
    """

    def __init__(self, table: SceneTable, *, several: bool):
        self.several, self.sentences = several, SceneColumn(table, "captions" if several else "caption")

    def __len__(self) -> int:
        return len(self.sentences)

    def take(self, rows: np.ndarray) -> list[list[str]]:
        """All sentences about some scenes."""
        found = self.sentences.take(rows)
        return found if self.several else [[text] for text in found]


class Shapes:
    """`data=shapes`: what the label is, what is captioned, and how many scenes each split has.

    Labelled scenes have one object (but for label=count and label=quadrant), captioned ones up to `caption_objects` and
    five sentences to train with. To be evaluated, a captioned scene has all the objects and one sentence: what is said
    of one object is true of many scenes. For the same reason there are few of them: among 512 the right caption is
    mostly the only one.
    Captions never name a held-out pair, whatever `test_split`.

    Args:
        size, objects, seed, texture: of `ShapesWorld` (`objects` is its `k`).
        label: colour, shape or pair of the one object; count of up to `objects` objects; or quadrant: which of the four
            holds the circle (among `objects` objects), to which the bag of patches has no answer.
        cross: with label=quadrant, width in pixels of a cross of four colours between the quadrants: landmarks.
        num_train, num_val, num_test: scenes of each split; `num_train` also of captioned ones.
        num_pairs: captioned scenes to validate and to test with.
        caption_objects: in a captioned scene, 1..4.
        test_split: `test`, or `comp`: only pairs of colour and shape that training never showed.
        shift: how the pictures of the test split differ from those of training; see `tfcli.data.synthetic.shifts`.

    Raises:
        ConfigError: a label that the scenes do not determine.
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
        test_split: Literal["test", "comp"] = "test",
        shift: Shift = "none",
    ):
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
        if shift == "texture" and not texture:
            raise ConfigError("data.shift=texture draws stripes in place of noise, but data.texture=false has neither.")
        self.world = ShapesWorld(
            size,
            k=objects,
            seed=seed,
            texture=texture,
            vary=label == "count",
            quadrants=label == "quadrant",
            cross=cross,
        )
        self.label = label
        self.counts = {"train": ("train", num_train), "val": ("val", num_val), "test": (test_split, num_test)}
        self.pair_counts = {"train": num_train, "val": num_pairs, "test": num_pairs}
        self.tested = replace(self.world, shift=shift)
        self.captioned = {
            split: ShapesWorld(
                size,
                k=caption_objects,
                seed=seed,
                texture=texture,
                vary=split == "train",
                shift=shift if split == "test" else "none",
            )
            for split in self.pair_counts
        }

    @property
    def classes(self) -> list[str]:
        """Names in label order."""
        counts = [str(i + 1) for i in range(self.world.k)]
        names = {"colour": COLOURS, "shape": SHAPES, "pair": PAIR_NAMES, "count": counts, "quadrant": QUADRANTS}
        return list(names[self.label])

    def locate(self, request: Request) -> str:
        return "generated"

    def load(self, request: Request) -> LoadedTables:
        """Labels of every scene; pictures are rendered and captions, where they are wanted, written later."""
        splits = {}
        for split, (rules, count) in self.counts.items():
            if rules not in SPLITS or count < 1:
                continue
            world = self.tested if split == "test" else self.world
            table = SceneTable(world, split=rules, count=count, label=self.label)
            rows, label = np.arange(count), SceneColumn(table, "label")
            labels = np.concatenate([label.take(rows[i : i + _CHUNK]) for i in range(0, count, _CHUNK)])
            splits[split] = {"image": ShapesPixels(table), "label": labels}
        notes = []
        if self.counts["test"][0] == "comp":
            notes.append(
                f"{request.name}: tested on pairs of colour and shape that training never shows (test_split=comp)"
            )
        if self.tested.shift != "none":
            notes.append(f"{request.name}: tested on pictures that are drawn otherwise (shift={self.tested.shift})")
        classes = {"label": self.classes}
        if "caption" not in request.columns:
            return LoadedTables(splits, classes, notes)
        pairs = {split: self._pairs(split, count) for split, count in self.pair_counts.items() if count}
        return LoadedTables(pairs, classes, notes, beside=splits)

    def _pairs(self, split: str, count: int) -> Columns:
        table = SceneTable(self.captioned[split], split=split, count=count)
        return {"image": ShapesPixels(table), "caption": ShapesCaptions(table, several=split == "train")}
