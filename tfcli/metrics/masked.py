"""Figures of BERT's pre-training: masked tokens and next-sentence prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from tfcli.metrics.gathered import Gathered
from tfcli.metrics.info import LOSS, Declared, FigureInfo
from tfcli.metrics.intervals import Figures, mean, perplexity, ratio
from tfcli.shapes import Float, Int


class MaskedMetrics(Gathered):
    """Accuracy, cross-entropy (nats) and perplexity of masked tokens, and accuracy of next-sentence prediction.

    The intervals for tokens treat sequences as independent, since the tokens of a sequence are not.

    Args:
        next_sentence: whether there is next-sentence prediction.
    """

    def __init__(self, *, next_sentence: bool = True):
        super().__init__()
        self.next_sentence = next_sentence

    @property
    def declared(self) -> Declared:
        """Title and direction of each figure."""
        return {
            "perplexity": FigureInfo("perplexity", lower_is_better=True),
            "loss": LOSS,
            "masked_accuracy": FigureInfo("masked accuracy"),
            **({"next_accuracy": FigureInfo("next accuracy")} if self.next_sentence else {}),
        }

    def update(
        self,
        nats: Float[Tensor, "B"],
        correct: Int[Tensor, "B"],
        masked: Int[Tensor, "B"],
        next_correct: Int[Tensor, "B"],
        index: Int[Tensor, "B"],
    ) -> None:
        """Add sequences.

        Args:
            nats: cross-entropy of each sequence, summed over the masked tokens.
            correct, masked: numbers of correctly predicted and of masked tokens.
            next_correct: whether the next-sentence prediction is correct; -1 where there is none.
            index: indices of the sequences.
        """
        self.keep(index, zip(*(x.tolist() for x in (nats.double(), correct, masked, next_correct)), strict=True))

    def figures(self, rows: list[Any], *, intervals: bool) -> Figures:
        nats, correct, masked, next_correct = np.array(rows, dtype=float).T
        loss = ratio(nats, masked, low=0.0)
        figures: Figures = {
            "masked_accuracy": ratio(correct, masked, low=0.0, high=1.0),
            "perplexity": perplexity(loss),
            "loss": loss,
        }
        labelled = next_correct >= 0
        if self.next_sentence and labelled.any():
            figures["next_accuracy"] = mean(next_correct[labelled], low=0.0, high=1.0)
        return figures
