"""GLUE's metrics (Wang et al. 2019, table 1): accuracy, F1, Matthews, Pearson and Spearman correlation."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

from tfcli.metrics.classification import ClassificationMetrics
from tfcli.metrics.gathered import Gathered
from tfcli.metrics.info import LOSS, Declared, FigureInfo
from tfcli.metrics.intervals import Figures, correlation, mean, wilson
from tfcli.shapes import Float, Int


class LabelMetrics(ClassificationMetrics):
    """`ClassificationMetrics` with Matthews' correlation, and with two classes F1 of the second one.

    The intervals of these two are the 2.5 and 97.5 percentiles of 1,000 parametric bootstrap draws (fixed seed). All
    sums are of whole numbers, so that batches and ranks do not matter.

    Args:
        num_classes: K, the number of classes.
        groups: names of parts of a split with an accuracy of their own, for instance MNLI's two test sets.
    """

    hits: Tensor

    def __init__(self, num_classes: int, *, groups: tuple[str, ...] = ()):
        super().__init__(num_classes)
        self.groups = groups
        self.add_state("hits", torch.zeros(len(groups), 2, dtype=torch.int64), dist_reduce_fx="sum")  # right, seen

    def update(
        self,
        logits: Float[Tensor, "B K"],
        label: Int[Tensor, "B"],
        loss: Float[Tensor, "B"],
        group: Int[Tensor, "B"] | None = None,
    ) -> None:
        """Add a batch, as in `ClassificationMetrics`; `group` is the index of each sample's part."""
        super().update(logits, label, loss)
        if group is not None:
            right = (logits.argmax(1) == label).long()
            self.hits.index_add_(0, group, torch.stack([right, torch.ones_like(right)], 1))

    @property
    def declared(self) -> Declared:
        """Title and direction of each figure: F1 only with two classes."""
        of_classes = super().declared
        errors = {name: of_classes.pop(name) for name in ("loss", "calibration_error")}
        f1 = {"f1": FigureInfo("F1")} if self.num_classes == 2 else {}
        groups = {f"accuracy_{group}": FigureInfo(f"accuracy {group}") for group in self.groups}
        return {**of_classes, **f1, "matthews": FigureInfo("Matthews"), **errors, **groups}

    def with_intervals(self) -> Figures:
        """Return each figure with its 95 % interval."""
        figures = super().with_intervals()
        confusion = self.confusion.cpu().numpy()
        draw = np.random.default_rng(0)
        drawn = draw.multinomial(confusion.sum(), confusion.ravel() / confusion.sum(), size=1000)
        drawn = drawn.reshape(-1, *confusion.shape)
        for name in ("matthews", "f1")[: 2 if self.num_classes == 2 else 1]:
            measure = {"matthews": matthews, "f1": f1_of_second}[name]
            low, high = np.quantile(measure(drawn), [0.025, 0.975])
            figures[name] = float(measure(confusion[None])[0]), (float(low), float(high))
        for group, (right, seen) in zip(self.groups, self.hits.tolist(), strict=True):
            if seen:
                figures[f"accuracy_{group}"] = right / seen, wilson(right, seen)
        return figures


def matthews(confusion: Int[np.ndarray, "S K K"]) -> Float[np.ndarray, "S"]:
    """Return Matthews' correlation of true and predicted classes (Gorodkin 2004, equation 8); 0 if one is constant."""
    c = confusion.astype(float)
    total, right = c.sum((1, 2)), np.trace(c, axis1=1, axis2=2)
    true, guessed = c.sum(2), c.sum(1)
    both = right * total - (true * guessed).sum(1)
    spread = (total**2 - (true**2).sum(1)) * (total**2 - (guessed**2).sum(1))
    return np.divide(both, np.sqrt(spread), out=np.zeros_like(both), where=spread > 0)


def f1_of_second(confusion: Int[np.ndarray, "S K K"]) -> Float[np.ndarray, "S"]:
    """Return F1 of the second of two classes; 0 where it neither occurs nor is predicted."""
    c = confusion.astype(float)
    named = c[:, 1].sum(1) + c[:, :, 1].sum(1)
    return np.divide(2 * c[:, 1, 1], named, out=np.zeros_like(named), where=named > 0)


class ScoreMetrics(Gathered):
    """Pearson's and Spearman's correlation of predicted and true scores, and the mean squared error (loss)."""

    @property
    def declared(self) -> Declared:
        """Title and direction of each figure."""
        return {"pearson": FigureInfo("Pearson"), "spearman": FigureInfo("Spearman"), "loss": LOSS}

    def update(self, guess: Float[Tensor, "B"], score: Float[Tensor, "B"], index: Int[Tensor, "B"]) -> None:
        """Add predicted and true scores, and the indices of the samples."""
        self.keep(index, zip(guess.double().tolist(), score.double().tolist(), strict=True))

    def figures(self, rows: list[tuple[float, float]], *, intervals: bool) -> Figures:
        guess, score = np.array(rows).T
        return score_figures(guess, score)


def score_figures(guess: Float[np.ndarray, "N"], score: Float[np.ndarray, "N"]) -> Figures:
    """Return the figures of `ScoreMetrics` with 95 % intervals; a correlation is 0 where one side is constant."""
    varies = len(guess) > 1 and np.ptp(guess) > 0 and np.ptp(score) > 0 and np.isfinite(guess).all()
    found = {"pearson": pearsonr, "spearman": spearmanr}
    return {
        **{
            name: correlation(
                float(measure(guess, score).statistic) if varies else 0.0, len(guess), ranks=name == "spearman"
            )
            for name, measure in found.items()
        },
        "loss": mean((guess - score) ** 2, low=0.0),
    }
