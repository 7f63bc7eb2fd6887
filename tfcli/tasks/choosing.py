"""Base class of objectives that read text and choose one of K classes; it keeps the prediction for each test sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tfcli.shapes import Float, Int
from tfcli.tasks.gather import all_rows
from tfcli.tasks.text import TextObjective


class ClassChoice(TextObjective):
    """An objective whose `scores(batch)` returns logits (B, K), and whose `measure` passes them to `keep`."""

    def __init__(self, net: nn.Module, **objective: Any):
        super().__init__(net, **objective)
        self._predictions: list[Tensor] = []  # of this rank's test samples

    def scores(self, batch: dict[str, Tensor]) -> Float[Tensor, "B K"]:
        """Return the logits of a batch."""
        raise NotImplementedError

    def keep(self, split: str, index: Int[Tensor, "B"], label: Int[Tensor, "B"], logits: Float[Tensor, "B K"]) -> None:
        """Keep the predictions for test samples."""
        if split == "test":
            self._predictions.append(torch.stack([index, label, logits.argmax(1)], 1))

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self._predictions = []

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self.confusion = self.metric("test").confusion.cpu()
        self.outcomes = all_rows(self._predictions)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Return the probabilities (B, K) of the classes, and the index of each row."""
        return {"probability": self.scores(batch).float().softmax(1), "index": batch["index"]}
