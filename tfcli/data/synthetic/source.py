"""The world of shapes as a set with train, validation and test splits of fixed sizes."""

from __future__ import annotations

import numpy as np

from tfcli.data.items import Items, Loaded, Request
from tfcli.data.synthetic.shapes import COLOURS, PAIR_NAMES, SHAPES, STREAMS, ShapesWorld
from tfcli.errors import ConfigError

_CHUNK = 4096


class ShapesPixels:
    """Images rendered when they are asked for.

    Args:
        world: where they come from.
        split: train, val, test or comp.
        count: how many indices the split has.
    """

    def __init__(self, world: ShapesWorld, *, split: str, count: int):
        self.world, self.split, self.count, self.size = world, split, count, (world.size, world.size)

    def __len__(self) -> int:
        return self.count

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.world.batch(rows, split=self.split, fields=("image",))["image"].transpose(0, 2, 3, 1)


class Shapes:
    """`data=shapes`: what the label is, and how many scenes each split has.

    Args:
        size, objects, seed, texture: of `ShapesWorld` (`objects` is its `k`).
        label: colour, shape or pair of the one object, or count of up to `objects` objects.
        num_train, num_val, num_test: scenes of each split.
        test_split: `test`, or `comp`: only pairs of colour and shape that training never showed.

    Raises:
        ConfigError: a label that the scenes do not determine.
    """

    def __init__(
        self,
        *,
        size: int = 32,
        objects: int = 1,
        seed: int = 0,
        texture: bool = True,
        label: str = "pair",
        num_train: int = 20_000,
        num_val: int = 2_000,
        num_test: int = 2_000,
        test_split: str = "test",
    ):
        if label not in ("colour", "shape", "pair", "count"):
            raise ConfigError(f"`data.label` must be colour, shape, pair or count, but is {label!r}.")
        if test_split not in ("test", "comp"):
            raise ConfigError(f"`data.test_split` must be test or comp, but is {test_split!r}.")
        if label == "count" and objects < 2:
            raise ConfigError(f"data.label=count needs data.objects of at least 2, but it is {objects}.")
        if label != "count" and objects != 1:
            raise ConfigError(
                f"data.label={label} names one object, but data.objects is {objects}. Use 1, or label=count."
            )
        self.world = ShapesWorld(size, k=objects, seed=seed, texture=texture, vary=label == "count")
        self.label = label
        self.counts = {"train": ("train", num_train), "val": ("val", num_val), "test": (test_split, num_test)}

    @property
    def classes(self) -> list[str]:
        """Names in label order."""
        counts = [str(i + 1) for i in range(self.world.k)]
        return list({"colour": COLOURS, "shape": SHAPES, "pair": PAIR_NAMES, "count": counts}[self.label])

    def locate(self, request: Request) -> str:
        return "generated"

    def load(self, request: Request) -> Loaded:
        """Labels of every scene; pictures are rendered later."""
        splits = {}
        for split, (rules, count) in self.counts.items():
            if rules not in STREAMS or count < 1:
                continue
            chunks = [
                self.world.batch(np.arange(i, min(i + _CHUNK, count)), split=rules, fields=("label",), label=self.label)
                for i in range(0, count, _CHUNK)
            ]
            labels = np.concatenate([chunk["label"] for chunk in chunks])
            splits[split] = Items(labels, pixels=ShapesPixels(self.world, split=rules, count=count))
        notes = []
        if self.counts["test"][0] == "comp":
            notes.append(
                f"{request.name}: tested on pairs of colour and shape that training never shows (test_split=comp)"
            )
        return Loaded(self.classes, splits, notes)
