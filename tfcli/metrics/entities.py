"""Entity-level figures as in conlleval (Tjong Kim Sang and De Meulder 2003): whole entities of the right kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from tfcli.metrics.gathered import Gathered
from tfcli.metrics.info import Declared, FigureInfo
from tfcli.metrics.intervals import Figures, ratio, wilson
from tfcli.shapes import Int

Entity = tuple[str, int, int]
"""Kind, index of the first word, and index after the last word."""


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities of a sentence tagged in BIO, IOB1 (B- only between adjacent entities of a kind) or BIOES.

    Invalid sequences are accepted: an entity also begins at an I- or E- after O, after an end, or of another kind, and
    ends before a tag that cannot belong to it.
    """
    found: list[Entity] = []
    kind, begin, last = "", 0, "O"
    for place, tag in enumerate([*tags, "O"]):
        mark, _, now = tag.partition("-")
        continues = mark in ("I", "E") and last in ("B", "I") and now == kind
        if last != "O" and not continues:
            found.append((kind, begin, place))
        if mark != "O" and not continues:
            kind, begin = now, place
        last = mark
    return found


class EntityMetrics(Gathered):
    """Precision, recall and F1 of entities, F1 of each kind, and the accuracy of tags.

    With `words` there is also F1 over surface forms: each pair of an entity's words and its kind counts once in the
    whole split (WNUT-17, Derczynski et al. 2017, section 5).

    Args:
        classes: names of the tags.

    Attributes:
        words: words of each sentence of the split, by its index; None: not known.
    """

    def __init__(self, classes: Sequence[str]):
        super().__init__()
        self.classes = list(classes)
        self.kinds = sorted({tag.partition("-")[2] for tag in classes if tag != "O"})
        self.words: Sequence[Sequence[str]] | None = None

    @property
    def declared(self) -> Declared:
        """Title and direction of each figure; a kind that occurs nowhere has no figure."""
        whole = {"accuracy": "accuracy", "f1": "F1", "precision": "precision", "recall": "recall"}
        kinds = {f"f1/{kind}": f"f1/{kind}" for kind in self.kinds}
        surface = {"f1_surface": "f1 surface"} if self.words is not None else {}
        return {name: FigureInfo(title) for name, title in (whole | kinds | surface).items()}

    def update(self, guess: Int[Tensor, "B N"], target: Int[Tensor, "B N"], index: Int[Tensor, "B"]) -> None:
        """Add sentences.

        Args:
            guess: predicted tag at each place.
            target: true tag; negative where there is no word or not its first sub-word.
            index: indices of the sentences.
        """
        kept = target >= 0
        rows = ((g[k].tolist(), t[k].tolist()) for g, t, k in zip(guess, target, kept, strict=True))
        self.keep(index, zip(index.tolist(), *zip(*rows, strict=True), strict=True))

    def figures(self, rows: list[Any], *, intervals: bool) -> Figures:
        named = [([self.classes[i] for i in guess], [self.classes[i] for i in target]) for _, guess, target in rows]
        words = [self.words[index] for index, _, _ in rows] if self.words is not None else None
        return entity_figures([g for g, _ in named], [t for _, t in named], words)


def entity_figures(
    guesses: Sequence[Sequence[str]], targets: Sequence[Sequence[str]], words: Sequence[Sequence[str]] | None = None
) -> Figures:
    """Return the figures of `EntityMetrics` with 95 % intervals, which treat sentences as independent (delta method).

    Args:
        guesses, targets: predicted and true tags of each sentence.
        words: words of each sentence.
    """
    pairs = [(set(entities(g)), set(entities(t))) for g, t in zip(guesses, targets, strict=True)]
    figures = _precision_recall(pairs)
    if words is not None:
        guess, true = (
            {(kind, tuple(w[a:b])) for w, pair in zip(words, pairs, strict=True) for kind, a, b in pair[side]}
            for side in (0, 1)
        )
        forms = [({form} & guess, {form} & true) for form in sorted(guess | true)]
        figures["f1_surface"] = _precision_recall(forms)["f1"]
    words_right = [g == t for pair in zip(guesses, targets, strict=True) for g, t in zip(*pair, strict=True)]
    figures["accuracy"] = sum(words_right) / len(words_right), wilson(sum(words_right), len(words_right))
    for kind in sorted({kind for pair in pairs for side in pair for kind, _, _ in side}):
        of_kind = [({e for e in g if e[0] == kind}, {e for e in t if e[0] == kind}) for g, t in pairs]
        figures[f"f1/{kind}"] = _precision_recall(of_kind)["f1"]
    return figures


def _precision_recall(pairs: Sequence[tuple[set, set]]) -> Figures:
    """Return precision, recall and F1 of predicted sets against true ones."""
    hits, guess, true = np.array([(len(g & t), len(g), len(t)) for g, t in pairs], float).reshape(-1, 3).T
    bounds = {"low": 0.0, "high": 1.0}
    return {
        "f1": ratio(2 * hits, guess + true, **bounds),
        "precision": ratio(hits, guess, **bounds),
        "recall": ratio(hits, true, **bounds),
    }
