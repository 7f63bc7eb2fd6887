"""One label an image: cross-entropy and what is measured beside it."""

from __future__ import annotations

from collections.abc import Callable
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
    """Mean cross-entropy; against `target` where MixUp or CutMix made soft labels.

    Args:
        smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016, section 7).
    """
    return cross_entropy(logits.float(), label if target is None else target, label_smoothing=smoothing)


def batch_norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms of a network."""
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


def folded(net: nn.Module) -> bool:
    """Whether all batch norms only add a bias: mean 0 and variance 1, but trained biases, as exporters leave them.

    A fresh network has the same statistics and zero biases.
    """
    norms = batch_norms(net)
    return bool(norms) and all(_only_shifts(n) for n in norms) and all(bool(n.bias.any()) for n in norms)


def _only_shifts(norm: nn.BatchNorm2d) -> bool:
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        return False
    return bool((mean == 0).all() and (variance - 1).abs().max() < 1e-3)


class Classify(Objective):
    """Trains and measures a classifier.

    Logs train/loss and train/accuracy over each epoch, and under val/ and test/ what `ClassificationMetrics` computes.
    `horizon` must be set before fitting; `evaluated` names the splits of the validation loaders, in their order.

    Args:
        net: images to logits.
        num_classes: K.
        optim: makes an optimizer, called as `optim(net)`.
        schedule: the learning rate's factor, called as `schedule(step, total=..., epoch=...)`.
        label_smoothing: in the training loss only.
        batch_norm: train (statistics follow the batches), frozen (they stay), or auto: frozen only where a checkpoint
            came with its batch norms folded into the convolutions, whose statistics are no statistics at all.
    """

    net_protocol = Classifier
    train_figures: ClassVar[Declared] = {"loss": LOSS, "accuracy": FigureInfo("accuracy")}
    main_figure = "accuracy"

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: Count,
        optim: Callable[..., torch.optim.Optimizer],
        schedule: Callable[..., float],
        label_smoothing: Rate = 0.0,
        batch_norm: Literal["auto", "train", "frozen"] = "auto",
    ):
        super().__init__(net, optim=optim, schedule=schedule)
        if batch_norm not in ("auto", "train", "frozen"):
            raise ValueError(f"`task.batch_norm` must be auto, train or frozen, but is {batch_norm!r}.")
        self.batch_norm, self.label_smoothing = batch_norm, label_smoothing
        self._answers: list[Tensor] = []  # of this rank's test
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
        label = label if target is None else target.argmax(1)  # of a mixed image, the class with the larger share
        self.add(loss * len(label), (logits.argmax(1) == label).sum(), len(label))

    def on_train_epoch_end(self) -> None:
        sums = self.epoch_sums()
        if sums is not None:
            # Not to the loggers: the engine writes the epoch's figures before it saves, so no kill can part the two.
            self.log_dict({"train/loss": sums[0] / sums[2], "train/accuracy": sums[1] / sums[2]}, logger=False)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        if "spare" not in batch:
            self._measure(self.evaluated[dataloader_idx], batch)

    def on_validation_epoch_end(self) -> None:
        for split in self.evaluated:  # the test set may be watched for its curve; nothing is chosen by it
            metric = self._metric(split)
            self.log_dict({f"{split}/{name}": value for name, value in metric.compute().items()})
            metric.reset()

    def on_test_epoch_start(self) -> None:
        self._metric("test").reset()
        self._answers = []

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        if "spare" in batch:
            return
        guess = self._measure("test", batch)
        self._answers.append(torch.stack([batch["index"], batch["label"], guess], 1))

    def on_test_epoch_end(self) -> None:
        metric = self._metric("test")
        metric.sync(should_sync=self.trainer.world_size > 1)
        figures = self.test_figures(", ".join(metric.declared), metric.with_intervals, metric.compute)
        self.test_results = {f"test/{name}": figure for name, figure in figures.items()}
        self.confusion = metric.confusion.cpu()
        self.outcomes = all_rows(self._answers)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Probabilities (B, K) of each class, and which file each row is."""
        return {"probability": self.net(batch["image"]).float().softmax(1), "index": batch["index"]}

    def _metric(self, split: str) -> ClassificationMetrics:
        return cast(ClassificationMetrics, self.measured[f"{split}_"])

    def _measure(self, split: str, batch: dict[str, Tensor]) -> Int[Tensor, "B"]:
        """Add a batch to a split's figures; returns the guessed classes."""
        logits = self.net(batch["image"])
        loss = cross_entropy(logits.float(), batch["label"], reduction="none")
        self._metric(split).update(logits, batch["label"], loss)
        return logits.argmax(1)
