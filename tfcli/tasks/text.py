"""Base class of objectives on text: the mean training loss per target, and the figures of each split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tfcli.data.common.rows import Columns
from tfcli.errors import ConfigError
from tfcli.metrics.info import Declared
from tfcli.tasks.objective import Objective

Prediction = dict[str, Any]
"""Prediction for a text: `text`, and `classes` with `probabilities`, or `answer`."""


@dataclass(frozen=True)
class TrainedHead:
    """A trained model with its head, as the `predict_texts` of a task is given it.

    Attributes:
        outputs: encodes columns as the task's view does, and returns the head's output in float32 and the batch.
        classes: names of classes or tags.
        needs: columns that the task needs.
        top: largest number of classes to return for each text.
        state: buffers of the task by their names; empty for public weights.
        data: facts of the data set of the run (`conf/data`); empty for public weights.
    """

    outputs: Callable[[Columns], tuple[Tensor, dict[str, Tensor]]]
    classes: Sequence[str]
    needs: Sequence[str]
    top: int
    state: Mapping[str, Any]
    data: Mapping[str, Any]


def paired(texts: list[str], pairs: list[str]) -> Columns:
    """Return the columns of single texts, or of pairs of texts. Raises ConfigError where the numbers differ."""
    if pairs and len(pairs) != len(texts):
        raise ConfigError(f"there are {len(texts)} texts and {len(pairs)} second ones (--pair): as many are needed.")
    return {"text": texts, **({"pair": pairs} if pairs else {})}


def ranked(logits: Tensor, texts: list[str], names: Sequence[str], top: int) -> list[Prediction]:
    """Return the `top` most probable classes of each text, from its logits (B, K)."""
    probability, best = logits.softmax(1).cpu().topk(min(top, len(names)), 1)
    return [
        {"text": text, "classes": [names[i] for i in k], "probabilities": p}
        for text, k, p in zip(texts, best.tolist(), probability.tolist(), strict=True)
    ]


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
