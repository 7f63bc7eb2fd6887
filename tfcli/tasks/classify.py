"""Image classification: cross-entropy, with accuracy and calibration on validation and test sets."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.bounds import Count, Rate
from tfcli.metrics.classification import ClassificationMetrics
from tfcli.metrics.info import LOSS, Declared, FigureInfo
from tfcli.models.protocols import Classifier
from tfcli.shapes import Float, Int
from tfcli.tasks.baselines.classes import class_guesses
from tfcli.tasks.baselines.pixels import logistic_regression, nearest_neighbour
from tfcli.tasks.objective import ClassChoice


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


class Classify(ClassChoice):
    """Image classification.

    Logs train/loss and train/accuracy over each epoch, and under val/ and test/ the figures of `ClassificationMetrics`.

    Args:
        net: model that maps images to logits.
        num_classes: K, the number of classes.
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
        self.measured = nn.ModuleDict({split: ClassificationMetrics(num_classes) for split in ("val_", "test_")})

    def guesses(self, data: Any) -> dict[str, float]:
        return class_guesses(self.metric("test"), data.labels("train"), data.labels("test"))

    def baselines(self, data: Any) -> dict[str, float]:
        arrays = (*data.arrays("train"), *data.arrays("test"))
        return {
            "logistic regression on pixels/accuracy": logistic_regression(*arrays),
            "nearest neighbour of pixels/accuracy": nearest_neighbour(*arrays),
        }

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
        self.add(loss.detach() * len(label), (logits.argmax(1) == label).sum(), len(label))

    def scores(self, batch: dict[str, Tensor]) -> Float[Tensor, "B K"]:
        return self.net(batch["image"])

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        logits, label = self.scores(batch), batch["label"]
        self.metric(split).update(logits, label, cross_entropy(logits.float(), label, reduction="none"))
        self.keep(split, batch["index"], label, logits)
