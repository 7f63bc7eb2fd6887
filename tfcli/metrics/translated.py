"""Figures of translation models: BLEU, chrF, and the perplexity of the references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from tfcli.metrics.bleu import TranslationMetrics, length_of
from tfcli.metrics.info import LOSS, Declared, FigureInfo
from tfcli.metrics.intervals import Figures, perplexity, ratio
from tfcli.shapes import Float, Int


class TranslatedMetrics(TranslationMetrics):
    """`TranslationMetrics` with the loss (nats per token of the reference translation) and the perplexity."""

    @property
    def declared(self) -> Declared:
        """Title and direction of each figure; figures by length are included after a measurement."""
        figures = super().declared | {"perplexity": FigureInfo("perplexity", lower_is_better=True), "loss": LOSS}
        first = ("bleu", "chrf", "perplexity", "exact_match", "loss")
        return {name: figures[name] for name in first} | figures

    def update(  # type: ignore[override]  # it has more arguments
        self,
        guesses: Sequence[str],
        references: Sequence[str],
        sources: Sequence[str],
        index: Int[Tensor, "B"],
        *,
        nats: Float[Tensor, "B"],
        tokens: Int[Tensor, "B"],
    ) -> None:
        """Add translations as in `TranslationMetrics`, with cross-entropy and number of tokens of the references."""
        lengths = map(length_of, sources)
        self.keep(index, zip(guesses, references, lengths, nats.double().tolist(), tokens.tolist(), strict=True))

    def figures(self, rows: list[Any], *, intervals: bool) -> Figures:
        found = super().figures([row[:3] for row in rows], intervals=intervals)
        nats, tokens = np.array([row[3:] for row in rows], dtype=float).T
        loss = ratio(nats, tokens, low=0.0)
        return found | {"loss": loss, "perplexity": perplexity(loss)}
