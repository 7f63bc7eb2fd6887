"""Baselines for classes: chance and the most frequent class."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tfcli.shapes import Int

if TYPE_CHECKING:
    from tfcli.metrics.classification import ClassificationMetrics

NOT_OF_A_GUESS = ("loss", "accuracy_top5", "calibration_error")
"""Figures that need scores, which a constant guess does not have."""


def majority(train_label: Int[np.ndarray, "N"], count: int) -> Int[np.ndarray, "M"]:
    """Return the most frequent training class, `count` times."""
    return np.full(count, np.bincount(train_label).argmax())


def chance(classes: int, *, prefix: str = "") -> dict[str, float]:
    """Return the accuracies of chance, by `chance/figure`."""
    top5 = {f"chance/{prefix}accuracy_top5": 5 / classes} if classes > 5 else {}
    return {f"chance/{prefix}accuracy": 1 / classes} | top5


def class_guesses(
    metric: ClassificationMetrics,
    train: Int[np.ndarray, "N"],
    test: Int[np.ndarray, "M"],
    *,
    prefix: str = "",
    update: Mapping[str, Tensor] = MappingProxyType({}),
) -> dict[str, float]:
    """Return the test figures of chance and of the most frequent training class, by `method/figure`.

    Args:
        metric: the task's metric, of which a copy is used.
        train, test: labels; either may be empty.
        prefix: prefix of the figures' names.
        update: further arguments of the metric's `update`.
    """
    classes = metric.num_classes
    found = chance(classes, prefix=prefix)
    if not len(train) or not len(test):
        return found
    metric = deepcopy(metric).cpu()
    metric.reset()
    guess = torch.from_numpy(majority(train, len(test)))
    metric.update(one_hot(guess, classes).float(), torch.from_numpy(test), torch.zeros(len(test)), **update)
    figures = {name: value for name, value in metric.compute().items() if name not in NOT_OF_A_GUESS}
    return found | {f"most frequent class/{prefix}{name}": value for name, value in figures.items()}
