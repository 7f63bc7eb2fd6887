"""Figures that every head reports: top-1, top-5 and mean per class with 95 % intervals, from ranked classes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tfcli.data.columns.splits import stratified
from tfcli.errors import DataError
from tfcli.metrics.intervals import mean_per_class, wilson
from tfcli.shapes import Float, Int

Interval = tuple[float, float]
Split = tuple[Tensor, Tensor]
"""Features (N, D), float32, and labels (N,), int64."""


@dataclass(frozen=True)
class Figures:
    """The figures of one head on one split.

    Args:
        accuracy, accuracy_interval: top-1 with Wilson's 95 % interval.
        per_class, per_class_interval: mean of the classes' accuracies, over classes that occur.
        top5, top5_interval: None with at most five classes, or where fewer than five classes were ranked.
        n: number of samples.
        confusion: (K, K) counts; rows are true classes.
    """

    accuracy: float
    accuracy_interval: Interval
    per_class: float
    per_class_interval: Interval
    top5: float | None
    top5_interval: Interval | None
    n: int
    confusion: np.ndarray = field(compare=False, repr=False)

    def figure(self, name: str) -> float:
        """Return the figure `accuracy` or `per_class`."""
        return {"accuracy": self.accuracy, "per_class": self.per_class}[name]


def ranked(logits: Float[Tensor, "N K"]) -> Int[Tensor, "N R"]:
    """Return the five best classes of each row (all where there are fewer), best first."""
    return logits.topk(min(5, logits.shape[1]), 1).indices


def score(ranking: Int[Tensor, "N R"], label: Int[Tensor, "N"], *, num_classes: int) -> Figures:
    """Return the figures of a ranking.

    Args:
        ranking: classes, best first; -1 where there is no further class.
        label: true classes.
        num_classes: K, the number of classes.

    Raises:
        DataError: there are no samples.
    """
    total = len(label)
    if total == 0:
        raise DataError("there is nothing to measure: the split has no samples.")
    guess = ranking[:, 0]
    cells = torch.bincount(label * num_classes + guess, minlength=num_classes**2)
    confusion = cells.view(num_classes, num_classes).cpu().numpy()
    right = int(confusion.trace())
    per_class, per_class_interval = mean_per_class(confusion)
    top5 = top5_interval = None
    if num_classes > 5 and ranking.shape[1] >= 5:
        hits = int((ranking[:, :5] == label[:, None]).any(1).sum())
        top5, top5_interval = hits / total, wilson(hits, total)
    return Figures(
        accuracy=right / total,
        accuracy_interval=wilson(right, total),
        per_class=per_class,
        per_class_interval=per_class_interval,
        top5=top5,
        top5_interval=top5_interval,
        n=total,
        confusion=confusion,
    )


def checked(name: str, split: Split, *, num_classes: int, width: int | None = None) -> Split:
    """Check a split, and return it as float32 features and int64 labels.

    Args:
        name: name of the split, for messages.
        split: features and labels.
        num_classes: K, the number of classes.
        width: D of the training split; None for the training split itself.

    Raises:
        DataError: the split is empty; features are not a finite matrix of this width; the number of labels differs, or
            a label is outside 0 ... num_classes - 1. The message names the split and the first bad row.
    """
    features, label = split
    if features.ndim != 2:
        raise DataError(f"{name}: features must be a matrix (N, D), but have shape {tuple(features.shape)}.")
    if len(features) == 0:
        raise DataError(f"{name}: the split has no samples.")
    if width is not None and features.shape[1] != width:
        raise DataError(f"{name}: features have {features.shape[1]} columns, those of train have {width}.")
    if label.shape != (len(features),):
        raise DataError(f"{name}: {len(features)} rows of features, but labels of shape {tuple(label.shape)}.")
    features, label = features.float(), label.to(features.device).long()
    bad = (~features.isfinite().all(1)).nonzero().flatten()
    if len(bad):
        row = int(bad[0])
        column = int((~features[row].isfinite()).nonzero()[0])
        raise DataError(
            f"{name}: features of row {row} are not finite (column {column} is {float(features[row, column])}; "
            f"{len(bad)} of {len(features)} rows). Extract them again, in float32 if a lower precision overflowed."
        )
    outside = ((label < 0) | (label >= num_classes)).nonzero().flatten()
    if len(outside):
        row = int(outside[0])
        raise DataError(f"{name}: the label of row {row} is {int(label[row])}, outside 0 ... {num_classes - 1}.")
    return features, label


def joined(first: Split, second: Split) -> Split:
    """Return the concatenation of two splits."""
    return torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])


def hold_out(train: Split, *, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split a stratified, seeded part off train for validation: (train without it, validation).

    Raises:
        DataError: no class has a second sample.
    """
    features, label = train
    number = max(1, round(fraction * len(label)))
    kept, taken = stratified(label.cpu().numpy(), number=number, seed=seed, purpose="probe val")
    if len(taken) == 0:
        raise DataError(
            f"there is no validation split, and none can be held out of train: {len(label)} samples, one of each "
            "class. Fix the value that validation would choose (C, or K), or provide a validation split."
        )
    rows = [torch.from_numpy(part).to(label.device) for part in (kept, taken)]
    return (features[rows[0]], label[rows[0]]), (features[rows[1]], label[rows[1]])
