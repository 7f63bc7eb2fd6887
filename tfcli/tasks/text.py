"""Base class of objectives on text: the mean training loss per target, and the figures of each split."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tfcli.metrics.info import Declared
from tfcli.tasks.objective import Objective


class TextObjective(Objective):
    """An objective whose `measured` has the metrics `val_` and `test_`, which its `measure` updates.

    A metric has `declared`, `compute()` and `with_intervals()`, like `ClassificationMetrics`. Logs train/loss, and
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
        sums = self.epoch_sums()
        if sums is not None:
            # Without the loggers: the engine writes the epoch's figures together with its checkpoint.
            self.log_dict({"train/loss": sums[0] / sums[1]}, logger=False)

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
