"""Questions about scenes of coloured shapes as a set: several of each picture, to be answered in a word."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from tfcli.bounds import Bounds, Count, Natural
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.picked import Picked
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.data.synthetic.columns import SceneTable
from tfcli.data.synthetic.questions import ANSWERS
from tfcli.data.synthetic.shapes import ShapesWorld
from tfcli.data.synthetic.source import ShapesPixels


class AskedShapes:
    """`data=shapes_questions`: scenes of one to `objects` objects, `questions` about each; see `questions.ask`.

    Args:
        size, seed, texture: of `ShapesWorld` (`objects` is its `k`).
        objects: in a scene, at most.
        questions: about each scene.
        num_train, num_val, num_test: scenes of each split.
    """

    def __init__(
        self,
        *,
        size: Count = 32,
        objects: Annotated[int, Bounds(low=1, high=4)] = 4,
        seed: Natural = 0,
        texture: bool = True,
        questions: Count = 4,
        num_train: Count = 5_000,
        num_val: Count = 500,
        num_test: Count = 500,
    ):
        self.world = ShapesWorld(size, k=objects, seed=seed, texture=texture, vary=True)
        self.questions, self.counts = questions, {"train": num_train, "val": num_val, "test": num_test}
        self.answers = list(ANSWERS)

    def locate(self, request: Request) -> str:
        return "generated"

    def load(self, request: Request) -> LoadedTables:
        """Ask all questions; pictures are rendered later."""
        return LoadedTables(
            {split: self._split(split, count) for split, count in self.counts.items()}, {"answer": self.answers}
        )

    def _split(self, split: str, count: int) -> Columns:
        scenes = SceneTable(self.world, split=split, count=count)
        table = SceneTable(self.world, split=split, count=count, per_scene=self.questions)
        rows = np.arange(len(table))
        asked = table.columns(["question"])["question"].take(rows)
        return {
            "image": Picked(ShapesPixels(scenes), table.scene_of(rows)),
            "question": [question.text for question in asked],
            "answer": [self.answers.index(question.answer) for question in asked],
        }
