"""Tokens of the prompts of a data set's classes, for a model with a text tower."""

from __future__ import annotations

import torch
from torch import Tensor

from tfcli.engine.config.configs import roots
from tfcli.probes.prompts import load_prompts, texts
from tfcli.text.tokenizer import Tokenizer


def prompt_tokens(name: str, classes: list[str], tokenizer: Tokenizer) -> Tensor | None:
    """Return tokens (K, T, L) of every template of every class, for zero-shot figures; None without classes."""
    if not classes:
        return None
    sentences = texts(load_prompts(name, classes, roots=roots()))
    tokens = tokenizer.encode_padded([text for row in sentences for text in row], truncate=True)
    return torch.from_numpy(tokens).unflatten(0, (len(sentences), -1))
