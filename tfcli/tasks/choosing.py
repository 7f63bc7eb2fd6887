"""Base of objectives that read text and choose one of K classes: the choice on each test sample is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tfcli.shapes import Float, Int
from tfcli.tasks.gather import all_rows
from tfcli.tasks.text import TextObjective


class ClassChoice(TextObjective):
    """An objective whose `scores(batch)` are logits (B, K), and whose `measure` calls `keep` with them."""

    def __init__(self, net: nn.Module, *, optim: Callable[..., torch.optim.Optimizer], schedule: Callable[..., float]):
        super().__init__(net, optim=optim, schedule=schedule)
        self._answers: list[Tensor] = []  # of this rank's test

    def scores(self, batch: dict[str, Tensor]) -> Float[Tensor, "B K"]:
        """Return the logits of a batch."""
        raise NotImplementedError

    def keep(self, split: str, index: Int[Tensor, "B"], label: Int[Tensor, "B"], logits: Float[Tensor, "B K"]) -> None:
        """Keep what is chosen for test samples."""
        if split == "test":
            self._answers.append(torch.stack([index, label, logits.argmax(1)], 1))

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self._answers = []

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self.confusion = self.metric("test").confusion.cpu()
        self.outcomes = all_rows(self._answers)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Return probabilities (B, K) of each class, and which row each is."""
        return {"probability": self.scores(batch).float().softmax(1), "index": batch["index"]}
