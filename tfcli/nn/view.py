"""The view of queries and keys that a kernel is given: which keys each query sees, and the bias added to the scores."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from tfcli.nn.patterns import Causal, Full, Pattern
from tfcli.nn.places import Places
from tfcli.shapes import Bool, Float, Int

BLOCK, GPU_BLOCK = 64, 128
"""Tokens in a block of a block-sparse kernel; the smaller, the less is computed in vain."""
SPARSE = 0.5
"""The share of the scores below which leaving out blocks pays for gathering the others."""


@dataclass
class View:
    """Queries at places look at keys at places.

    Attributes:
        pattern: who may see whom.
        query, key: where they stand.
        bias: additive scores, one for all samples or one each, or None.
        valid: False for keys that are padding, or None where there is none. Padding sees itself, so that no row is
            empty.
        memo: of the masks, shared by the views of one forward pass.
    """

    pattern: Pattern
    query: Places
    key: Places
    bias: Float[Tensor, "*b H N M"] | None = None
    valid: Bool[Tensor, "B M"] | None = None
    memo: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def seen(self) -> Bool[Tensor, "N M"] | None:
        """The pattern's mask, made once for these places; None: everything is seen."""
        if isinstance(self.pattern, Full):
            return None
        return self._once("seen", self._seen)

    def _seen(self) -> Tensor | None:
        if isinstance(self.pattern, Causal) and self.query.follows(self.key):
            return None
        mask = self.pattern.mask(self.query, self.key)
        return None if bool(mask.all()) else mask

    @property
    def mask(self) -> Bool[Tensor, "*b N M"] | None:
        """`seen` without padding: `(N, M)`, or `(B, 1, N, M)` where there is some."""
        key = "mask", self.pattern
        if key not in self.memo:
            self.memo[key] = self.seen if self.valid is None else self._mask(self.valid[:, None, None])
        return self.memo[key]

    def _mask(self, valid: Tensor) -> Tensor:
        if self.query is self.key:
            valid = valid | torch.eye(len(self.key), dtype=torch.bool, device=valid.device)
        return valid if self.seen is None else valid & self.seen

    @property
    def triangular(self) -> bool:
        """Whether the mask is the lower triangle and nothing else, for which fused kernels have a faster path."""
        alone = self.bias is None and self.valid is None and self.query is self.key
        return alone and isinstance(self.pattern, Causal) and self.query.in_line

    @property
    def blocks(self) -> BlockMap | None:
        """The mask block by block, where leaving out the empty ones pays; None where it does not."""
        seen = self.seen
        size = GPU_BLOCK if self.query.coords.device.type == "cuda" else BLOCK
        if seen is None or len(self.query) < 2 * size:
            return None
        blocks = self._once("blocks", lambda: block_map(seen, size))
        return blocks if blocks.share < SPARSE else None

    def _once(self, what: str, make: Callable[[], Any]) -> Any:
        key = what, self.pattern
        if self.query is self.key:
            return self.query.once(key, make)
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]


@dataclass(eq=False)
class BlockRows:
    """Query blocks that look at equally many key blocks.

    Attributes:
        rows: the query blocks.
        columns: the key blocks that each looks at.
        mask: who sees whom in them.
    """

    rows: Int[Tensor, "R"]
    columns: Int[Tensor, "R C"]
    mask: Bool[Tensor, "R S CS"]


@dataclass(eq=False)
class BlockMap:
    """A mask as the blocks of it that are not empty.

    Attributes:
        size: S, tokens in a block; the last block is filled up with keys that nobody sees.
        groups: all query blocks.
        share: of the scores that are computed.
    """

    size: int
    groups: list[BlockRows]
    share: float


def block_map(mask: Bool[Tensor, "N M"], size: int) -> BlockMap:
    """Cut a mask into blocks of `size` x `size`, and keep those in which anything is seen."""
    n, m = mask.shape
    tiles = pad(mask, (0, -m % size, 0, -n % size)).unflatten(1, (-1, size)).unflatten(0, (-1, size))  # (R, S, C, S)
    full = tiles.any(3).any(1)  # (R, C)
    counts = full.sum(1)
    groups = []
    for count in counts.unique().tolist():
        rows = (counts == count).nonzero()[:, 0]
        columns = full[rows].nonzero()[:, 1].view(len(rows), count)
        picked = tiles.transpose(1, 2)[rows[:, None], columns]  # (R, C, S, S)
        groups.append(BlockRows(rows, columns, picked.transpose(1, 2).flatten(2)))
    return BlockMap(size, groups, int(counts.sum()) / full.numel())
