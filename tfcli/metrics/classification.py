"""Classification figures from sums, with 95 % intervals: exact for any batch size and number of ranks.

torchmetrics has single figures without intervals, and its calibration error stores every confidence. Here one pass adds
whole numbers only (losses and confidences as multiples of 2^-24), so that the order of addition does not matter.
"""

from __future__ import annotations

from functools import partial
from math import sqrt

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from tfcli.metrics.info import LOSS, Declared, FigureInfo
from tfcli.metrics.intervals import Z, limited, mean_per_class, wilson
from tfcli.shapes import Float, Int

UNIT = 2**24


class ClassificationMetrics(Metric):
    """Top-1, top-5, mean per class, loss and calibration error over all samples.

    Args:
        num_classes: K, the number of classes.
        bins: number of equal confidence bins of the calibration error (Guo et al. 2017, equation 3).
    """

    full_state_update = False
    confusion: Tensor
    top5: Tensor
    loss: Tensor
    not_finite: Tensor
    calibration: Tensor

    def __init__(self, num_classes: int, *, bins: int = 15):
        super().__init__()
        self.num_classes, self.bins = num_classes, bins
        zeros = partial(torch.zeros, dtype=torch.int64)
        self.add_state("confusion", zeros(num_classes, num_classes), dist_reduce_fx="sum")
        self.add_state("top5", zeros(()), dist_reduce_fx="sum")
        self.add_state("loss", zeros(2), dist_reduce_fx="sum")  # sum and sum of squares
        self.add_state("not_finite", zeros(()), dist_reduce_fx="sum")
        self.add_state("calibration", zeros(3, bins), dist_reduce_fx="sum")  # count, right, confidence

    def update(self, logits: Float[Tensor, "B K"], label: Int[Tensor, "B"], loss: Float[Tensor, "B"]) -> None:
        """Add a batch.

        Args:
            logits: scores before the softmax.
            label: true classes.
            loss: loss of each sample.
        """
        guess = logits.argmax(1)
        cells = label * self.num_classes + guess
        self.confusion += torch.bincount(cells, minlength=self.num_classes**2).view_as(self.confusion)
        if self.num_classes > 5:
            self.top5 += (logits.topk(5, 1).indices == label[:, None]).sum()
        finite = loss.isfinite()
        self.not_finite += (~finite).sum()
        loss = torch.where(finite, loss.float(), 0.0).clamp(max=1e4)
        self.loss += torch.stack([_whole(loss).sum(), _whole(loss.square() / 256).sum()])
        sure = logits.float().softmax(1).amax(1).nan_to_num(0.0)
        column = (sure * self.bins).ceil().long().clamp(1, self.bins) - 1
        rows = torch.stack([torch.ones_like(column), (guess == label).long(), _whole(sure)])
        self.calibration.scatter_add_(1, column.expand(3, -1), rows)

    @property
    def declared(self) -> Declared:
        """Title and direction of each figure: top-5 only with more than 5 classes."""
        top5 = {"accuracy_top5": FigureInfo("top 5")} if self.num_classes > 5 else {}
        per_class = {"accuracy_per_class": FigureInfo("per class")}
        error = FigureInfo("calibration error", lower_is_better=True)
        return {"accuracy": FigureInfo("accuracy"), **top5, **per_class, "loss": LOSS, "calibration_error": error}

    def compute(self) -> dict[str, float]:
        """Return the figures by name."""
        return {name: value for name, (value, _) in self.with_intervals().items()}

    def with_intervals(self) -> dict[str, tuple[float, tuple[float, float]]]:
        """Return each figure with its 95 % interval.

        Proportions have Wilson's interval, mean per class and loss the normal one, and the calibration error the 2.5
        and 97.5 percentiles of 1,000 parametric bootstrap draws (fixed seed).
        """
        confusion = self.confusion.cpu().numpy()
        seen, right = confusion.sum(1), np.diag(confusion)
        total = int(seen.sum())
        if total == 0:
            raise ValueError("there is nothing to measure: no sample was seen.")
        figures = {"accuracy": (right.sum() / total, wilson(int(right.sum()), total))}
        if self.num_classes > 5:
            hits = int(self.top5)
            figures["accuracy_top5"] = (hits / total, wilson(hits, total))
        figures["accuracy_per_class"] = mean_per_class(confusion)
        first, second = self.loss.cpu().numpy().astype(float) * np.array([1, 256]) / UNIT
        loss = first / total if int(self.not_finite) == 0 else float("nan")
        spread = Z * sqrt(max(0.0, second / total - (first / total) ** 2) / total)
        figures["loss"] = limited(loss, spread, 0, float("inf"))
        figures["calibration_error"] = self._calibration(total)
        return {name: (float(value), (float(low), float(high))) for name, (value, (low, high)) in figures.items()}

    def _calibration(self, total: int) -> tuple[float, tuple[float, float]]:
        count, right, sure = self.calibration.cpu().numpy().astype(float)
        filled = count > 0
        count, right, sure = count[filled], right[filled], sure[filled] / UNIT
        error = np.abs(right - sure).sum() / total
        draw = np.random.default_rng(0)
        counts = draw.multinomial(total, count / total, size=1000)
        rights = draw.binomial(counts, right / count)
        errors = np.abs(rights - counts * (sure / count)).sum(1) / total
        return error, tuple(np.quantile(errors, [0.025, 0.975]))


def _whole(x: Tensor) -> Tensor:
    """Return numbers in fixed point: the nearest multiple of 2^-24, as a whole number."""
    return (x * UNIT).round().long()
