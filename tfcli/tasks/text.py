"""Predictions for texts that a user passes: types and helpers of the tasks' `predict_texts`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tfcli.data.common.rows import Columns
from tfcli.errors import ConfigError

Prediction = dict[str, Any]
"""Prediction for a text: `text`, and `classes` with `probabilities`, or `answer`."""


@dataclass(frozen=True)
class TrainedHead:
    """A trained model with its head, as the `predict_texts` of a task is given it.

    Attributes:
        outputs: encodes columns as the task's view does, and returns the head's output in float32 and the batch.
        classes: names of classes or tags.
        needs: columns that the task needs.
        top: largest number of classes to return for each text.
        state: buffers of the task by their names; empty for public weights.
        data: facts of the data set of the run (`conf/data`); empty for public weights.
    """

    outputs: Callable[[Columns], tuple[Tensor, dict[str, Tensor]]]
    classes: Sequence[str]
    needs: Sequence[str]
    top: int
    state: Mapping[str, Any]
    data: Mapping[str, Any]


def paired(texts: list[str], pairs: list[str]) -> Columns:
    """Return the columns of single texts, or of pairs of texts. Raises ConfigError where the numbers differ."""
    if pairs and len(pairs) != len(texts):
        raise ConfigError(f"there are {len(texts)} texts and {len(pairs)} second ones (--pair): as many are needed.")
    return {"text": texts, **({"pair": pairs} if pairs else {})}


def ranked(logits: Tensor, texts: list[str], names: Sequence[str], top: int) -> list[Prediction]:
    """Return the `top` most probable classes of each text, from its logits (B, K)."""
    probability, best = logits.softmax(1).cpu().topk(min(top, len(names)), 1)
    return [
        {"text": text, "classes": [names[i] for i in k], "probabilities": p}
        for text, k, p in zip(texts, best.tolist(), probability.tolist(), strict=True)
    ]
