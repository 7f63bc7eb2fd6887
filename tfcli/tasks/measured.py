"""Base classes of objectives with one metric for each split, and of those that choose one of K classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tfcli.metrics.info import Declared
from tfcli.shapes import Float, Int
from tfcli.tasks.gather import all_rows
from tfcli.tasks.objective import Objective


class MeasuredObjective(Objective):
    """An objective whose `measured` has the metrics `val_` and `test_`, which its `measure` updates.

    A metric has `declared`, `compute()` and `with_intervals()`, like `ClassificationMetrics`. Logs `train_figures`, and
    under val/ and test/ the figures of the metrics.
    """

    measured: nn.ModuleDict

    def figures(self, split: str) -> Declared:
        return self.metric(split).declared

    def metric(self, split: str) -> Any:
        """Return the metric of a split."""
        return self.measured[f"{split}_"]

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        """Add a batch to a split's figures."""
        raise NotImplementedError

    # ---- training

    def average(self, loss: Tensor, target: Tensor) -> None:
        """Add a batch to the epoch's train/loss, weighted by its number of targets."""
        count = (target >= 0).sum() if target.ndim > 1 else target.new_tensor(len(target))
        self.add(loss.detach() * count, count)

    def on_train_epoch_end(self) -> None:
        sums = self.epoch_sums()  # of each of `train_figures`, then of what they are divided by
        if sums is not None:
            figures = {f"train/{name}": sums[i] / sums[-1] for i, name in enumerate(self.train_figures)}
            # Without the loggers: the engine writes the epoch's figures together with its checkpoint.
            self.log_dict(figures, logger=False)

    # ---- evaluation

    def on_validation_epoch_start(self) -> None:
        for split in self.evaluated:
            self.metric(split).reset()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        if "spare" not in batch:
            self.measure(self.evaluated[dataloader_idx], batch)

    def on_validation_epoch_end(self) -> None:
        for split in self.evaluated:  # may include the test set, for its curve; it chooses nothing
            self.log_dict({f"{split}/{name}": value for name, value in self.metric(split).compute().items()})
            self.metric(split).reset()

    def on_test_epoch_start(self) -> None:
        self.metric("test").reset()

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        if "spare" not in batch:
            self.measure("test", batch)

    def on_test_epoch_end(self) -> None:
        metric = self.metric("test")
        metric.sync(should_sync=self.trainer.world_size > 1)
        figures = self.test_figures(", ".join(metric.declared), metric.with_intervals, metric.compute)
        self.test_results = {f"test/{name}": figure for name, figure in figures.items()}


class ClassChoice(MeasuredObjective):
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
