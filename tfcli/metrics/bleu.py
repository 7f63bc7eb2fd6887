"""BLEU and chrF of translations by sacrebleu, with signatures, for a corpus and by the length of the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import sacrebleu
from torch import Tensor

from tfcli.metrics.gathered import Gathered
from tfcli.metrics.info import Declared, FigureInfo
from tfcli.metrics.intervals import UNKNOWN, Figure, Figures, wilson
from tfcli.shapes import Int

DRAWS = 1000
"""Number of bootstrap samples."""
BUCKETS = 6
"""Largest number of buckets of source lengths."""


class CHRF(sacrebleu.CHRF):
    """sacrebleu's chrF with Python floats as scores.

    sacrebleu returns float where nothing is right and numpy's float32 elsewhere, and its bootstrap fails on this mix.
    """

    def _compute_f_score(self, statistics: Any) -> float:
        return float(super()._compute_f_score(statistics))


class TranslationMetrics(Gathered):
    """BLEU (Papineni et al. 2002) and chrF (Popović 2015), 0 to 100, and exact match, the share of correct sentences.

    BLEU and exact match also exist for buckets of source lengths, with names such as `bleu/length=12`: sources of at
    most 12 words, and more than the bucket before. Buckets depend on the sources alone: all models have the same.

    Args:
        tokenize: sacrebleu's tokenizer: 13a, intl, zh, ja-mecab, char, none; the default suits most languages.
        lowercase: ignore case.
        buckets: largest number of buckets; 0: no figures by length.
    """

    def __init__(self, *, tokenize: str = "13a", lowercase: bool = False, buckets: int = BUCKETS):
        super().__init__()
        if tokenize not in sacrebleu.BLEU.TOKENIZERS:
            raise ValueError(f"`tokenize` must be one of {', '.join(sacrebleu.BLEU.TOKENIZERS)}, but is {tokenize!r}.")
        self.options: dict[str, Any] = {"tokenize": tokenize, "lowercase": lowercase}
        self.buckets = buckets
        self.signatures: dict[str, str] = {}
        self._by_length: tuple[str, ...] = ()  # names of the figures of the last measurement

    @property
    def declared(self) -> Declared:
        """Title and direction of each figure; figures by length are included after a measurement."""
        whole = {
            "bleu": FigureInfo("BLEU", decimals=1),
            "chrf": FigureInfo("chrF", decimals=1),
            "exact_match": FigureInfo("exact match"),
        }
        parts: Declared = {}
        for name in self._by_length:
            head, _, length = name.partition("/length=")
            parts[name] = replace(whole[head], title=f"{whole[head].title}, up to {length} words")
        return whole | parts

    def update(
        self, guesses: Sequence[str], references: Sequence[str], sources: Sequence[str], index: Int[Tensor, "B"]
    ) -> None:
        """Add translations with their references, their sources and the indices of the sentences."""
        self.keep(index, zip(guesses, references, map(length_of, sources), strict=True))

    def figures(self, rows: list[tuple[str, str, int]], *, intervals: bool) -> Figures:
        guesses, references, lengths = (list(column) for column in zip(*rows, strict=True))
        found, self.signatures = translation_figures(guesses, references, intervals=intervals, **self.options)
        if intervals:
            parts = by_length(guesses, references, lengths, buckets=self.buckets, **self.options)
            self._by_length, found = tuple(sorted(parts, key=lambda name: name.partition("/")[0])), found | parts
        return found


def length_of(source: str) -> int:
    """Return the number of words of a source."""
    return len(source.split())


def translation_figures(
    guesses: Sequence[str], references: Sequence[str], *, intervals: bool = True, **options: Any
) -> tuple[Figures, dict[str, str]]:
    """Return the figures of a corpus, and sacrebleu's signatures of BLEU and chrF, which make them reproducible.

    Args:
        guesses, references: sentences.
        intervals: compute 95 % intervals by sacrebleu's bootstrap over sentences (Koehn 2004); otherwise (NaN, NaN).
        options: options of sacrebleu's BLEU: tokenize, lowercase.
    """
    bleu, chrf = sacrebleu.BLEU(force=True, **options), CHRF(lowercase=options.get("lowercase", False))
    figures = {
        "bleu": _corpus(bleu, guesses, references, intervals),
        "chrf": _corpus(chrf, guesses, references, intervals),
    }
    figures["exact_match"] = _exact(guesses, references)
    return figures, {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}


def by_length(
    guesses: Sequence[str], references: Sequence[str], lengths: Sequence[int], *, buckets: int = BUCKETS, **options: Any
) -> Figures:
    """Return BLEU and exact match by source length, with intervals, as `bleu/length=12`; short ones have no BLEU.

    Args:
        guesses, references: sentences.
        lengths: numbers of words of the sources.
        buckets: largest number of buckets, which have about the same number of sentences.
        options: options of sacrebleu's BLEU.
    """
    figures: Figures = {}
    bleu = sacrebleu.BLEU(force=True, **options)
    below = -1
    for edge in edges(lengths, buckets):
        rows = [row for row, length in enumerate(lengths) if below < length <= edge]
        guess, reference = ([texts[row] for row in rows] for texts in (guesses, references))
        if any(len(text.split()) > 3 for text in reference):  # BLEU counts 4-grams, and is 0 without any
            figures[f"bleu/length={edge}"] = _corpus(bleu, guess, reference, True)
        figures[f"exact_match/length={edge}"] = _exact(guess, reference)
        below = edge
    return figures


def edges(lengths: Sequence[int], buckets: int) -> list[int]:
    """Return the largest length of each bucket: quantiles, so that buckets have similar sizes and are never empty."""
    if not buckets:
        return []
    shares = np.arange(1, buckets + 1) / buckets
    return sorted({int(edge) for edge in np.quantile(lengths, shares, method="inverted_cdf")})


def _corpus(metric: Any, guesses: Sequence[str], references: Sequence[str], intervals: bool) -> Figure:
    if not intervals:
        return metric.corpus_score(guesses, [references]).score, UNKNOWN
    # The library keeps draws x sentences x 18 numbers in memory: use fewer draws for very large sets.
    draws = int(np.clip(5e6 / len(guesses), 100, DRAWS))
    score = metric.corpus_score(guesses, [references], n_bootstrap=draws)
    low, high = float(score._mean - score._ci), float(score._mean + score._ci)
    return score.score, (max(0.0, min(low, score.score)), min(100.0, max(high, score.score)))


def _exact(guesses: Sequence[str], references: Sequence[str]) -> Figure:
    right = sum(guess == reference for guess, reference in zip(guesses, references, strict=True))
    return right / len(guesses), wilson(right, len(guesses))
