"""Heads that language models put on their last layer for fine-tuning."""

from __future__ import annotations

from torch import nn


def make_head(kind: str, width: int, *, num_classes: int | None, kinds: tuple[str, ...]) -> nn.Linear:
    """A linear map: to the classes (`classes` of a text, `tags` of each token), to where a span starts and where it
    ends (`span`), or to one number (`score`; `choice`, one for each text of a sample).

    Raises:
        ValueError: the kind is none of `kinds`, or there are no classes to give scores to.
    """
    if kind not in kinds:
        raise ValueError(f"`model.head` must be one of {', '.join(kinds)}, or null, but is {kind!r}.")
    if kind not in ("classes", "tags"):
        return nn.Linear(width, 2 if kind == "span" else 1)
    if not num_classes:
        raise ValueError(f"`model.num_classes` must be a number for a head of {kind}, but is {num_classes}.")
    return nn.Linear(width, num_classes)


def check_vocabulary(vocab_size: int | None) -> int:
    """Raises ValueError where it is not known how many tokens there are."""
    if not vocab_size:
        raise ValueError("`model.vocab_size` must be a number; null takes the tokenizer's, and there is none.")
    return vocab_size
