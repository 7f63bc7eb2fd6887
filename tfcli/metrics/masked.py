"""Words filled in, and whether one text follows another: what BERT's pre-training is measured by."""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np
from torch import Tensor

from tfcli.metrics.gathered import Gathered
from tfcli.metrics.info import LOSS, Declared, FigureInfo
from tfcli.metrics.intervals import Figures, mean, ratio
from tfcli.shapes import Float, Int


class MaskedMetrics(Gathered):
    """Accuracy and cross-entropy (nats) of the tokens to be guessed, its exponential, accuracy on next texts.

    The intervals of tokens are of ratios of sums over sequences, since tokens of a sequence are guessed together.

    Args:
        next_sentence: whether there are next texts to be told from others.
    """

    def __init__(self, *, next_sentence: bool = True):
        super().__init__()
        self.next_sentence = next_sentence

    @property
    def declared(self) -> Declared:
        """Return title and direction of each figure."""
        return {
            "perplexity": FigureInfo("perplexity", lower_is_better=True),
            "loss": LOSS,
            "masked_accuracy": FigureInfo("masked accuracy"),
            **({"next_accuracy": FigureInfo("next accuracy")} if self.next_sentence else {}),
        }

    def update(
        self,
        nats: Float[Tensor, "B"],
        right: Int[Tensor, "B"],
        asked: Int[Tensor, "B"],
        next_right: Int[Tensor, "B"],
        index: Int[Tensor, "B"],
    ) -> None:
        """Add sequences.

        Args:
            nats: cross-entropy of each, summed over the tokens asked.
            right, asked: tokens.
            next_right: whether the next text was told right; -1 where there was none.
            index: of the sequences.
        """
        self.keep(index, zip(*(x.tolist() for x in (nats.double(), right, asked, next_right)), strict=True))

    def figures(self, rows: list[Any], *, intervals: bool) -> Figures:
        """See `Gathered`."""
        nats, right, asked, told = np.array(rows, dtype=float).T
        loss = ratio(nats, asked, low=0.0)
        value, (low, high) = loss
        figures: Figures = {
            "masked_accuracy": ratio(right, asked, low=0.0, high=1.0),
            "perplexity": (_exp(value), (_exp(low), _exp(high))),
            "loss": loss,
        }
        if self.next_sentence and (told >= 0).any():
            figures["next_accuracy"] = mean(told[told >= 0], low=0.0, high=1.0)
        return figures


def _exp(nats: float) -> float:
    return exp(min(nats, 700.0))
