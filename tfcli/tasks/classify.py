"""Image classification: cross-entropy, with accuracy and calibration on validation and test sets."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.bounds import Count, Rate
from tfcli.metrics.classification import ClassificationMetrics
from tfcli.metrics.info import LOSS, Declared, FigureInfo
from tfcli.models.protocols import Classifier
from tfcli.shapes import Float, Int
from tfcli.tasks.baselines.classes import class_guesses
from tfcli.tasks.baselines.pixels import logistic_regression
from tfcli.tasks.gather import all_rows
from tfcli.tasks.objective import Objective


def classification_loss(
    logits: Float[Tensor, "B K"],
    label: Int[Tensor, "B"],
    target: Float[Tensor, "B K"] | None = None,
    *,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy; against `target` where MixUp or CutMix made soft labels.

    Args:
        smoothing: share of the target that is spread evenly over all classes (Szegedy et al. 2016, section 7).
    """
    return cross_entropy(logits.float(), label if target is None else target, label_smoothing=smoothing)


def batch_norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    """Return the batch norms of a network."""
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


def folded(net: nn.Module) -> bool:
    """Return whether the batch norms are folded into the convolutions: mean 0, variance 1 and non-zero biases.

    A new network has the same statistics, but zero biases.
    """
    norms = batch_norms(net)
    return bool(norms) and all(_only_shifts(n) for n in norms) and all(bool(n.bias.any()) for n in norms)


def _only_shifts(norm: nn.BatchNorm2d) -> bool:
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        return False
    return bool((mean == 0).all() and (variance - 1).abs().max() < 1e-3)


class Classify(Objective):
    """Image classification.

    Logs train/loss and train/accuracy over each epoch, and under val/ and test/ the figures of `ClassificationMetrics`.

    Args:
        net: model that maps images to logits.
        num_classes: K.
        label_smoothing: label smoothing of the training loss.
        batch_norm: train (update the statistics), frozen (keep them), or auto: frozen only where the batch norms of a
            checkpoint are folded into the convolutions, so that their statistics have no meaning.
        objective: as in `Objective`.
    """

    net_protocol = Classifier
    train_figures: ClassVar[Declared] = {"loss": LOSS, "accuracy": FigureInfo("accuracy")}
    main_figure = "accuracy"

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: Count,
        label_smoothing: Rate = 0.0,
        batch_norm: Literal["auto", "train", "frozen"] = "auto",
        **objective: Any,
    ):
        super().__init__(net, **objective)
        if batch_norm not in ("auto", "train", "frozen"):
            raise ValueError(f"`task.batch_norm` must be auto, train or frozen, but is {batch_norm!r}.")
        self.batch_norm, self.label_smoothing = batch_norm, label_smoothing
        self._predictions: list[Tensor] = []  # of this rank's test samples
        self.measured = nn.ModuleDict({split: ClassificationMetrics(num_classes) for split in ("val_", "test_")})

    def figures(self, split: str) -> Declared:
        return self._metric(split).declared

    def guesses(self, data: Any) -> dict[str, float]:
        return class_guesses(self._metric("test"), data.labels("train"), data.labels("test"))

    def baselines(self, data: Any) -> dict[str, float]:
        found = logistic_regression(*data.arrays("train"), *data.arrays("test"))
        return {"logistic regression on pixels/accuracy": found}

    def forward(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K"]:
        return self.net(image)

    def train(self, mode: bool = True):
        super().train(mode)
        if mode and (self.batch_norm == "frozen" or (self.batch_norm == "auto" and folded(self.net))):
            for norm in batch_norms(self.net):
                norm.eval()
        return self

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        logits = self.net(batch["image"])
        label, target = batch["label"], batch.get("target")
        loss = classification_loss(logits, label, target, smoothing=self.label_smoothing)
        self.count(loss, logits, label, target)
        return loss

    def count(self, loss: Tensor, logits: Tensor, label: Tensor, target: Tensor | None) -> None:
        """Add a batch to the epoch's train/loss and train/accuracy."""
        label = label if target is None else target.argmax(1)  # the class with the larger share in a mixed image
        self.add(loss * len(label), (logits.argmax(1) == label).sum(), len(label))

    def on_train_epoch_end(self) -> None:
        sums = self.epoch_sums()
        if sums is not None:
            # Without the loggers: the engine writes the epoch's figures together with its checkpoint.
            self.log_dict({"train/loss": sums[0] / sums[2], "train/accuracy": sums[1] / sums[2]}, logger=False)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        if "spare" not in batch:
            self._measure(self.evaluated[dataloader_idx], batch)

    def on_validation_epoch_end(self) -> None:
        for split in self.evaluated:  # may include the test set, for its curve; it chooses nothing
            metric = self._metric(split)
            self.log_dict({f"{split}/{name}": value for name, value in metric.compute().items()})
            metric.reset()

    def on_test_epoch_start(self) -> None:
        self._metric("test").reset()
        self._predictions = []

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        if "spare" in batch:
            return
        guess = self._measure("test", batch)
        self._predictions.append(torch.stack([batch["index"], batch["label"], guess], 1))

    def on_test_epoch_end(self) -> None:
        metric = self._metric("test")
        metric.sync(should_sync=self.trainer.world_size > 1)
        figures = self.test_figures(", ".join(metric.declared), metric.with_intervals, metric.compute)
        self.test_results = {f"test/{name}": figure for name, figure in figures.items()}
        self.confusion = metric.confusion.cpu()
        self.outcomes = all_rows(self._predictions)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Return the probabilities (B, K) of the classes, and the index of each row."""
        return {"probability": self.net(batch["image"]).float().softmax(1), "index": batch["index"]}

    def _metric(self, split: str) -> ClassificationMetrics:
        return cast(ClassificationMetrics, self.measured[f"{split}_"])

    def _measure(self, split: str, batch: dict[str, Tensor]) -> Int[Tensor, "B"]:
        """Add a batch to a split's figures; return the predicted classes."""
        logits = self.net(batch["image"])
        loss = cross_entropy(logits.float(), batch["label"], reduction="none")
        self._metric(split).update(logits, batch["label"], loss)
        return logits.argmax(1)
