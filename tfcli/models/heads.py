"""Fine-tuning heads of language models."""

from __future__ import annotations

from torch import nn


def make_head(kind: str, width: int, *, num_classes: int | None, kinds: tuple[str, ...]) -> nn.Linear:
    """Build a linear head of width 2 (`span`: start and end), 1 (`score`, `choice`) or K (`classes`, `tags`).

    Raises:
        ValueError: the kind is none of `kinds`, or the number of classes is not given.
    """
    if kind not in kinds:
        raise ValueError(f"`model.head` must be one of {', '.join(kinds)}, or null, but is {kind!r}.")
    if kind not in ("classes", "tags"):
        return nn.Linear(width, 2 if kind == "span" else 1)
    if not num_classes:
        raise ValueError(f"`model.num_classes` must be a number for a head of {kind}, but is {num_classes}.")
    return nn.Linear(width, num_classes)


def check_vocabulary(vocab_size: int | None) -> int:
    """Raise ValueError where the size of the vocabulary is not known; return it otherwise."""
    if not vocab_size:
        raise ValueError("`model.vocab_size` must be a number; null uses the tokenizer's size, but there is none.")
    return vocab_size
