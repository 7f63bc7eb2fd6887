"""Language models measured from sums over sequences: exact over ranks, with 95 % intervals."""

from __future__ import annotations

from math import exp, log, sqrt

import torch
from torch import Tensor
from torchmetrics import Metric

from tfcli.metrics.classification import Z
from tfcli.metrics.info import LOSS, Declared, FigureInfo
from tfcli.shapes import Float, Int

SIZES = ("tokens", "bytes", "chars", "words")


class LanguageMetrics(Metric):
    """Cross-entropy per token, byte, character and word, in the units in which each is published.

    loss (nats a token), perplexity (its exponential), bits_per_byte, bits_per_char, and word_perplexity: that of whole
    words, which can be compared whatever the tokens are (as WikiText's). A size that is never given has no figure.
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
            nats: cross-entropy of each, summed over its tokens.
            tokens, bytes, chars, words: what was predicted of each.
        """
        sizes = [torch.zeros_like(tokens) if size is None else size for size in (tokens, bytes, chars, words)]
        rows = torch.stack([nats, *sizes], 1).double()  # (B, 5)
        self.sums += rows.sum(0)
        self.products += rows.mT @ rows
        self.count += len(rows)

    @property
    def declared(self) -> Declared:
        """Return title and direction of each figure."""
        return {
            "bits_per_char": FigureInfo("bits per character", lower_is_better=True),
            "bits_per_byte": FigureInfo("bits per byte", lower_is_better=True),
            "perplexity": FigureInfo("perplexity", lower_is_better=True),
            "word_perplexity": FigureInfo("perplexity per word", lower_is_better=True),
            "loss": LOSS,
        }

    def compute(self) -> dict[str, float]:
        """The figures by name."""
        return {name: value for name, (value, _) in self.with_intervals().items()}

    def with_intervals(self) -> dict[str, tuple[float, tuple[float, float]]]:
        """Each figure with its 95 % interval: of a ratio of sums over sequences, by the delta method.

        Raises:
            ValueError: nothing was seen.
        """
        if not int(self.count):
            raise ValueError("there is nothing to measure: no text was seen.")
        per = {size: self._ratio(i) for i, size in enumerate(SIZES, 1)}
        figures = {"loss": per["tokens"], "perplexity": _mapped(per["tokens"], _exp)}
        for name, size in (("bits_per_byte", "bytes"), ("bits_per_char", "chars")):
            if per[size]:
                figures[name] = _mapped(per[size], lambda nats: nats / log(2))
        if per["words"]:
            figures["word_perplexity"] = _mapped(per["words"], _exp)
        return {name: figure for name, figure in figures.items() if figure is not None}

    def _ratio(self, column: int) -> tuple[float, tuple[float, float]] | None:
        """Nats for each of a size, and its interval."""
        sums, products, count = self.sums.cpu(), self.products.cpu(), int(self.count)
        total = float(sums[column])
        if not total:
            return None
        ratio = float(sums[0]) / total
        square = products[0, 0] - 2 * ratio * products[0, column] + ratio**2 * products[column, column]
        spread = Z * sqrt(max(0.0, float(square)) * count / max(1, count - 1)) / total
        return ratio, (ratio - spread, ratio + spread)


def _mapped(figure, change):
    if figure is None:
        return None
    value, (low, high) = figure
    return change(value), (change(low), change(high))


def _exp(nats: float) -> float:
    return exp(min(nats, 700.0))
