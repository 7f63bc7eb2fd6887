"""Translate texts with a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from tfcli.data.views.translations import Translations, start_of
from tfcli.decoding.search import WU
from tfcli.engine.config.build import build
from tfcli.engine.runs.terminal import progress
from tfcli.engine.use.language_model import LoadedLanguageModel
from tfcli.models.protocols import Translator
from tfcli.tasks.translate import translate

BATCH = 32


def translations(
    loaded: LoadedLanguageModel, texts: Sequence[str], *, beam: int | None, alpha: float | None, count: int = 1
) -> list[dict[str, Any]]:
    """Return each text with its `translations`, best first: `text`, `score` and `log_probability`.

    Args:
        beam: sequences that are followed at a time, at least `count`; None: as the task's config has it.
        alpha: length penalty; None: likewise.
        count: translations of each text.
    """
    tokenizer = loaded.tokenizer
    encoded = Translations().encode(
        {"source": list(texts), "target": [""] * len(texts)}, tokenizer, length=loaded.context, train=False
    )
    loaded.warn_truncated(encoded.cut)
    asked = {"beams": 4, "alpha": 0.6, "longer": 50, "search": None, **(loaded.config.get("task") or {})}
    rules = build(asked["search"]) if asked["search"] else WU
    beams, alpha = max(beam or asked["beams"], count), asked["alpha"] if alpha is None else alpha
    order = np.argsort(encoded.lengths, kind="stable")
    found: list[dict[str, Any]] = [{} for _ in texts]
    with progress("translating", len(texts), "sentences") as advance:
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            batch = encoded.batch(rows, seed=0, epoch=0)
            hypotheses = translate(
                cast(Translator, loaded.net),
                batch["source"].to(loaded.device),
                batch["valid"].to(loaded.device),
                start=start_of(tokenizer),
                stop=cast(int, tokenizer.eos_id),
                beams=beams,
                alpha=alpha,
                longer=asked["longer"],
                longest=loaded.context,
                rules=rules,
            )
            for row, best in zip(rows, hypotheses, strict=True):
                shown = [
                    {
                        "text": tokenizer.decode(h.tokens),
                        "score": _number(h.score),
                        "log_probability": _number(h.log_probability),
                    }
                    for h in best[:count]
                ]
                found[row] = {"source": texts[row], "translations": shown}
            advance(len(rows))
    return found


def _number(value: float) -> float | None:
    return None if value != value else value
