"""Patterns: may the query at place p see the key at place q? A pointwise predicate on coordinates.

A pattern is called with coordinates that broadcast, `(N, 1, A)` and `(1, M, A)`, and answers with booleans `(N, M)`;
the same predicate can therefore fill a dense mask or be asked block by block. Patterns combine with `&` and `|`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tfcli.nn.places import Places
from tfcli.shapes import Bool


class Pattern:
    """A predicate on coordinates; `name` appears in messages.

    Args:
        sees: maps query and key coordinates `(..., A)` to booleans `(...)`.
        name: what the pattern is called in configs and messages.
    """

    def __init__(self, sees: Callable[[Tensor, Tensor], Tensor], *, name: str):
        self.sees, self.name = sees, name

    def __call__(self, query: Tensor, key: Tensor) -> Tensor:
        return self.sees(query, key)

    def __and__(self, other: Pattern) -> Pattern:
        return Pattern(lambda q, k: self(q, k) & other(q, k), name=f"({self.name} & {other.name})")

    def __or__(self, other: Pattern) -> Pattern:
        return Pattern(lambda q, k: self(q, k) | other(q, k), name=f"({self.name} | {other.name})")

    def mask(self, query: Places, key: Places) -> Bool[Tensor, "N M"] | None:
        """True where attention may look; special tokens see and are seen by everything. None: everywhere."""
        seen = self(query.coords[:, None], key.coords[None])
        return seen | query.special[:, None] | key.special[None]


class Full(Pattern):
    """Every token sees every token: no mask at all, which lets the fastest kernels run."""

    def __init__(self) -> None:
        super().__init__(lambda q, k: torch.ones_like((q - k)[..., 0], dtype=torch.bool), name="full")

    def mask(self, query: Places, key: Places) -> None:
        return None


class Causal(Pattern):
    """A token sees itself and what stands before it on every axis (one axis: the usual left-to-right mask)."""

    def __init__(self) -> None:
        super().__init__(lambda q, k: (k <= q).all(-1), name="causal")
