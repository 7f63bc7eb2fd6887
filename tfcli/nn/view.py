"""The view of queries and keys that a kernel is given: which keys each query sees, and the bias added to the scores."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from tfcli.nn.patterns import Causal, Full, Pattern, Windows
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
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
        memo: of masks and biases, shared by the views of one forward pass.
        pos: the position that adds to the scores, or None.
        filled: whether the keys are the queries' own tokens, then padding that the pattern makes.
    """

    pattern: Pattern
    query: Places
    key: Places
    bias: Float[Tensor, "*b H N M"] | None = None
    valid: Bool[Tensor, "B M"] | None = None
    memo: dict[Hashable, Any] = field(default_factory=dict)
    pos: Position | None = None
    filled: bool = False

    @property
    def seen(self) -> Bool[Tensor, "*b N M"] | None:
        """The pattern's mask, made once for these places; None: everything is seen."""
        if isinstance(self.pattern, Full):
            return None
        return self._once("seen", self._seen)

    def _seen(self) -> Tensor | None:
        if isinstance(self.pattern, Causal) and self.query.follows(self.key):
            return None
        mask = self.pattern.mask(self.query, self.key)
        return None if mask.ndim == 2 and bool(mask.all()) else mask

    @property
    def mask(self) -> Bool[Tensor, "*b N M"] | None:
        """`seen` without padding: `(N, M)`, or `(B, 1, N, M)` where there is some or samples have their own places."""
        key = "mask", self.pattern, self.query, self.key
        if key not in self.memo:
            seen = self.seen
            seen = seen if seen is None or seen.ndim == 2 else seen.unsqueeze(-3)
            self.memo[key] = seen if self.valid is None else self._valid(seen, self.valid[:, None, None])
        return self.memo[key]

    def _valid(self, seen: Tensor | None, valid: Tensor) -> Tensor:
        if self.of_itself:
            valid = valid | torch.eye(len(self.query), len(self.key), dtype=torch.bool, device=valid.device)
        return valid if seen is None else valid & seen

    def added(self, q: Float[Tensor, "*b H N E"], k: Float[Tensor, "*b H M E"]) -> Float[Tensor, "*c H N M"] | None:
        """Return what is added to the scores of `q` and `k`: the bias, and what the position gives."""
        if self.pos is None:
            return self.bias
        key = "bias", self.pos, self.query, self.key
        if key not in self.memo:
            self.memo[key] = self.pos.bias(self.query, self.key)
        terms = [self.bias, self.memo[key], self.pos.scores(q, k, self.query, self.key)]
        total = None
        for term in terms:
            total = term if total is None else total if term is None else total + term
        return total

    @property
    def triangular(self) -> bool:
        """Whether the mask is the lower triangle and nothing else, for which fused kernels have a faster path."""
        alone = self.valid is None and self.query is self.key
        return alone and isinstance(self.pattern, Causal) and self.query.in_line

    @property
    def of_itself(self) -> bool:
        """Whether the first keys are the queries' own tokens, and no others but padding that the pattern makes."""
        return self.key is self.query or self.filled

    @property
    def blocks(self) -> BlockMap | None:
        """The mask block by block, where leaving out the empty ones pays; None where it does not."""
        size = GPU_BLOCK if self.query.coords.device.type == "cuda" else BLOCK
        if len(self.query) < 2 * size or not (self.query.shared and self.key.shared):
            return None
        seen = self.seen
        if seen is None:
            return None
        blocks = self._once("blocks", lambda: block_map(seen, size))
        return blocks if blocks.share < SPARSE else None

    @property
    def cells(self) -> CellMap | None:
        """Tokens sorted by the pattern's cells; None where it has none, or where samples have places of their own.

        Nor where the keys are others than the queries' tokens, as in a cache or a memory.
        """
        if not (self.of_itself and self.query.shared):
            return None
        return self._once("cells", lambda: cell_map(self.pattern, self.query, self.key))

    def _once(self, what: str, make: Callable[[], Any]) -> Any:
        if self.of_itself and self.query.shared:
            return self.query.once((what, self.pattern, self.key), make)
        key = what, self.pattern, self.query, self.key
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]


@dataclass(eq=False)
class CellMap:
    """Queries and keys by cells: no token that is not special sees beyond its own cell.

    Attributes:
        rows: the queries of each cell; where a cell has fewer than S, its last slots hold any.
        columns: the keys of each cell, likewise, and then the special tokens, which all cells see.
        query, key: where these stand.
        mask: who sees whom; None: all of a cell see each other. Slots that hold no query of the cell see everything.
        special: the queries that are special, which see all keys.
        order: where each query is found in the special ones followed by all slots.
        itself: whether a slot's query is the slot's key.
    """

    rows: Int[Tensor, "W S"]
    columns: Int[Tensor, "W K"]
    query: Places
    key: Places
    mask: Bool[Tensor, "W S K"] | None
    special: Int[Tensor, "s"]
    order: Int[Tensor, "N"]
    free: Bool[Tensor, "W S"]

    @property
    def itself(self) -> Bool[Tensor, "W S K"]:
        return (self.rows[:, :, None] == self.columns[:, None]) | self.free[:, :, None]


def cell_map(pattern: Pattern, query: Places, key: Places) -> CellMap | None:
    """Sort queries and keys by the cells of a pattern; None where it has no cells."""
    of_query, of_key = pattern.cells(query), pattern.cells(key)
    if of_query is None or of_key is None:
        return None
    q_cells, k_cells = of_query.long(), of_key.long()
    used = q_cells[~query.special].unique()  # cells without a query are left out
    rows, has_query = _slots(q_cells, query.special, used)
    own, has_key = _slots(k_cells, key.special, used)
    shown = key.special.nonzero()[:, 0]
    columns = torch.cat([own, shown.expand(len(used), -1)], 1)
    q_places, k_places = query.take(rows), key.take(columns)
    mask = pad(has_key, (0, len(shown)), value=True)[:, None]
    if not isinstance(pattern, Windows):
        mask = mask & pattern.mask(q_places, k_places)
    mask = mask | ~has_query[:, :, None]
    special = query.special.nonzero()[:, 0]
    order = torch.empty(len(query), dtype=torch.long, device=rows.device)
    order[special] = torch.arange(len(special), device=rows.device)
    order[rows[has_query]] = has_query.flatten().nonzero()[:, 0] + len(special)
    return CellMap(
        rows, columns, q_places, k_places, None if bool(mask.all()) else mask, special, order, free=~has_query
    )


def _slots(
    cells: Int[Tensor, "N"], special: Bool[Tensor, "N"], used: Int[Tensor, "W"]
) -> tuple[Int[Tensor, "W S"], Bool[Tensor, "W S"]]:
    """Return the tokens of each of the `used` cells, and which slots hold one; the others hold token 0."""
    tokens = (~special & torch.isin(cells, used)).nonzero()[:, 0]
    cell = torch.searchsorted(used, cells[tokens])
    order = cell.argsort(stable=True)
    tokens, cell = tokens[order], cell[order]
    counts = cell.bincount(minlength=len(used))
    slot = torch.arange(len(cell), device=cell.device) - (counts.cumsum(0) - counts)[cell]
    rows = cells.new_zeros(len(used), int(counts.max()) if len(used) else 0)
    filled = torch.zeros_like(rows, dtype=torch.bool)
    rows[cell, slot], filled[cell, slot] = tokens, True
    return rows, filled


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
