"""Entities found by tags, counted as conlleval does (Tjong Kim Sang and De Meulder 2003): whole, of the right kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from tfcli.metrics.classification import wilson
from tfcli.metrics.gathered import Gathered
from tfcli.metrics.info import Declared, FigureInfo
from tfcli.metrics.intervals import Figures, ratio
from tfcli.shapes import Int

Entity = tuple[str, int, int]
"""Kind, first word, and the word after the last."""


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a sentence tagged in BIO, IOB1 (B- only between entities of a kind that touch) or BIOES.

    Any sequence has a reading: an entity also begins at an I- or E- after O, after an end, or of another kind, and ends
    before whatever cannot belong to it.
    """
    found: list[Entity] = []
    kind, begin, last = "", 0, "O"
    for place, tag in enumerate([*tags, "O"]):
        mark, _, now = tag.partition("-")
        goes_on = mark in ("I", "E") and last in ("B", "I") and now == kind
        if last != "O" and not goes_on:
            found.append((kind, begin, place))
        if mark != "O" and not goes_on:
            kind, begin = now, place
        last = mark
    return found


class EntityMetrics(Gathered):
    """Precision, recall and F1 of entities, F1 of each kind, and the share of words whose tag is right.

    With `words` there is also F1 over different surface forms: each pair of an entity's words and its kind counts once
    in all of the split (WNUT-17, Derczynski et al. 2017, section 5).

    Args:
        classes: the tags.

    Attributes:
        words: of each sentence of the split, by its index; None: not known.
    """

    def __init__(self, classes: Sequence[str]):
        super().__init__()
        self.classes = list(classes)
        self.kinds = sorted({tag.partition("-")[2] for tag in classes if tag != "O"})
        self.words: Sequence[Sequence[str]] | None = None

    @property
    def declared(self) -> Declared:
        """Return title and direction of each figure; a kind that nobody names will have none."""
        whole = {"accuracy": "accuracy", "f1": "F1", "precision": "precision", "recall": "recall"}
        kinds = {f"f1/{kind}": f"f1/{kind}" for kind in self.kinds}
        surface = {"f1_surface": "f1 surface"} if self.words is not None else {}
        return {name: FigureInfo(title) for name, title in (whole | kinds | surface).items()}

    def update(self, guess: Int[Tensor, "B N"], target: Int[Tensor, "B N"], index: Int[Tensor, "B"]) -> None:
        """Add sentences.

        Args:
            guess: the tag guessed at each place.
            target: the right one; negative where there is no word, or not its first piece.
            index: which sentence each is.
        """
        kept = target >= 0
        rows = ((g[k].tolist(), t[k].tolist()) for g, t, k in zip(guess, target, kept, strict=True))
        self.keep(index, zip(index.tolist(), *zip(*rows, strict=True), strict=True))

    def figures(self, rows: list[Any], *, intervals: bool) -> Figures:
        """See `Gathered`."""
        named = [([self.classes[i] for i in guess], [self.classes[i] for i in target]) for _, guess, target in rows]
        words = [self.words[index] for index, _, _ in rows] if self.words is not None else None
        return entity_figures([g for g, _ in named], [t for _, t in named], words)


def entity_figures(
    guesses: Sequence[Sequence[str]], targets: Sequence[Sequence[str]], words: Sequence[Sequence[str]] | None = None
) -> Figures:
    """The figures of `EntityMetrics` with 95 % intervals: of ratios of sums over sentences, by the delta method.

    Args:
        guesses, targets: the tags of each sentence.
        words: of each sentence.
    """
    pairs = [(set(entities(g)), set(entities(t))) for g, t in zip(guesses, targets, strict=True)]
    figures = _of(pairs)
    if words is not None:
        said, true = (
            {(kind, tuple(w[a:b])) for w, pair in zip(words, pairs, strict=True) for kind, a, b in pair[side]}
            for side in (0, 1)
        )
        figures["f1_surface"] = _of([({form} & said, {form} & true) for form in sorted(said | true)])["f1"]
    words_right = [g == t for pair in zip(guesses, targets, strict=True) for g, t in zip(*pair, strict=True)]
    figures["accuracy"] = sum(words_right) / len(words_right), wilson(sum(words_right), len(words_right))
    for kind in sorted({kind for pair in pairs for side in pair for kind, _, _ in side}):
        of_kind = [({e for e in g if e[0] == kind}, {e for e in t if e[0] == kind}) for g, t in pairs]
        figures[f"f1/{kind}"] = _of(of_kind)["f1"]
    return figures


def _of(pairs: Sequence[tuple[set, set]]) -> Figures:
    """Precision, recall and F1 of guessed against right things, pair by pair."""
    hits, said, true = np.array([(len(g & t), len(g), len(t)) for g, t in pairs], float).reshape(-1, 3).T
    bounds = {"low": 0.0, "high": 1.0}
    return {
        "f1": ratio(2 * hits, said + true, **bounds),
        "precision": ratio(hits, said, **bounds),
        "recall": ratio(hits, true, **bounds),
    }
