"""Figures of language models from sums over sequences: exact over ranks, with 95 % intervals."""

from __future__ import annotations

from math import log, sqrt

import torch
from torch import Tensor
from torchmetrics import Metric

from tfcli.metrics.info import LOSS, Declared, FigureInfo
from tfcli.metrics.intervals import Figure, Figures, Z, perplexity
from tfcli.shapes import Float, Int

SIZES = ("tokens", "bytes", "chars", "words")


class LanguageMetrics(Metric):
    """Cross-entropy per token, byte, character and word, in the usual units.

    The figures are loss (nats per token), perplexity (its exponential), bits_per_byte, bits_per_char, and
    word_perplexity, the perplexity per whole word, which does not depend on the tokens (as published for WikiText). A
    size that is never passed has no figure.
    """

    full_state_update = False
    sums: Tensor
    products: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        width = 1 + len(SIZES)
        self.add_state("sums", torch.zeros(width, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("products", torch.zeros(width, width, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        nats: Float[Tensor, "B"],
        tokens: Int[Tensor, "B"],
        *,
        bytes: Int[Tensor, "B"] | None = None,
        chars: Int[Tensor, "B"] | None = None,
        words: Int[Tensor, "B"] | None = None,
    ) -> None:
        """Add sequences.

        Args:
            nats: cross-entropy of each sequence, summed over its tokens.
            tokens, bytes, chars, words: numbers of predicted units in each sequence.
        """
        sizes = [torch.zeros_like(tokens) if size is None else size for size in (tokens, bytes, chars, words)]
        rows = torch.stack([nats, *sizes], 1).double()  # (B, 5)
        self.sums += rows.sum(0)
        self.products += rows.mT @ rows
        self.count += len(rows)

    @property
    def declared(self) -> Declared:
        """Title and direction of each figure."""
        return {
            "bits_per_char": FigureInfo("bits per character", lower_is_better=True),
            "bits_per_byte": FigureInfo("bits per byte", lower_is_better=True),
            "perplexity": FigureInfo("perplexity", lower_is_better=True),
            "word_perplexity": FigureInfo("perplexity per word", lower_is_better=True),
            "loss": LOSS,
        }

    def compute(self) -> dict[str, float]:
        """Return the figures by name."""
        return {name: value for name, (value, _) in self.with_intervals().items()}

    def with_intervals(self) -> Figures:
        """Return each figure with its 95 % interval, which treats sequences as independent (delta method).

        Raises:
            ValueError: there are no sequences.
        """
        if not int(self.count):
            raise ValueError("there is nothing to measure: no text was seen.")
        per = {size: self._ratio(i) for i, size in enumerate(SIZES, 1)}
        figures: Figures = {}
        if (loss := per["tokens"]) is not None:
            figures |= {"loss": loss, "perplexity": perplexity(loss)}
        for name, size in (("bits_per_byte", "bytes"), ("bits_per_char", "chars")):
            if (nats := per[size]) is not None:
                figures[name] = nats[0] / log(2), (nats[1][0] / log(2), nats[1][1] / log(2))
        if (nats := per["words"]) is not None:
            figures["word_perplexity"] = perplexity(nats)
        return figures

    def _ratio(self, column: int) -> Figure | None:
        """Return the nats per unit of a size, with the interval; None where the size was not passed."""
        sums, products, count = self.sums.cpu(), self.products.cpu(), int(self.count)
        total = float(sums[column])
        if not total:
            return None
        ratio = float(sums[0]) / total
        square = products[0, 0] - 2 * ratio * products[0, column] + ratio**2 * products[column, column]
        spread = Z * sqrt(max(0.0, float(square)) * count / max(1, count - 1)) / total
        return ratio, (ratio - spread, ratio + spread)
