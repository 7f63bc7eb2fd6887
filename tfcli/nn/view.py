"""The view that a kernel receives: which keys each query sees, and the bias on the scores."""

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
"""Number of tokens in a block of a block-sparse kernel, on a CPU and on a GPU; smaller blocks waste fewer scores."""
SPARSE = 0.5
"""Largest share of computed scores for which skipping blocks is faster than computing all."""


@dataclass
class View:
    """Queries and keys, which of them may see each other, and the bias on their scores.

    Attributes:
        pattern: which keys a query may see.
        query, key: their places.
        bias: score bias, the same for all samples or one for each, or None.
        valid: False for keys that are padding, or None where there is none. Padding sees itself, so that no row is
            empty.
        memo: cache of masks and biases, shared by the views of one forward pass.
        pos: the position that adds to the scores, or None.
        filled: whether the keys are the queries' own tokens followed by the pattern's own padding.
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
    def pattern_mask(self) -> Bool[Tensor, "*b N M"] | None:
        """The mask of the pattern without padding, computed once for these places; None: every key is visible."""
        if isinstance(self.pattern, Full):
            return None
        return self._once("pattern mask", self._pattern_mask)

    def _pattern_mask(self) -> Tensor | None:
        if isinstance(self.pattern, Causal) and self.query.follows(self.key):
            return None
        mask = self.pattern.mask(self.query, self.key)
        return None if mask.ndim == 2 and bool(mask.all()) else mask

    @property
    def mask(self) -> Bool[Tensor, "*b N M"] | None:
        """The mask of pattern and padding: `(N, M)`, or `(B, 1, N, M)` with padding or places of each sample."""
        key = "mask", self.pattern, self.query, self.key
        if key not in self.memo:
            mask = self.pattern_mask
            mask = mask if mask is None or mask.ndim == 2 else mask.unsqueeze(-3)
            self.memo[key] = mask if self.valid is None else self._with_padding(mask, self.valid[:, None, None])
        return self.memo[key]

    def _with_padding(self, mask: Tensor | None, valid: Tensor) -> Tensor:
        if self.is_self:
            valid = valid | torch.eye(len(self.query), len(self.key), dtype=torch.bool, device=valid.device)
        return valid if mask is None else valid & mask

    def score_bias(
        self, q: Float[Tensor, "*b H N E"], k: Float[Tensor, "*b H M E"]
    ) -> Float[Tensor, "*c H N M"] | None:
        """Return the bias on the scores of `q` and `k`, including the position's."""
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
        """Whether the mask is exactly the lower triangle, for which fused kernels have a faster path."""
        alone = self.valid is None and self.query is self.key
        return alone and isinstance(self.pattern, Causal) and self.query.in_line

    @property
    def is_self(self) -> bool:
        """Whether the keys are the queries' own tokens, possibly followed by the pattern's own padding."""
        return self.key is self.query or self.filled

    @property
    def blocks(self) -> BlockMap | None:
        """The non-empty blocks of the mask; None where skipping the others is not faster."""
        size = GPU_BLOCK if self.query.coords.device.type == "cuda" else BLOCK
        if len(self.query) < 2 * size or not (self.query.shared and self.key.shared):
            return None
        mask = self.pattern_mask
        if mask is None:
            return None
        blocks = self._once("blocks", lambda: block_map(mask, size))
        return blocks if blocks.share < SPARSE else None

    @property
    def cells(self) -> CellMap | None:
        """The tokens sorted by the pattern's cells.

        None where the pattern has no cells, where samples have places of their own, and where the keys are not the
        queries' tokens, as with a cache or a memory.
        """
        if not (self.is_self and self.query.shared):
            return None
        return self._once("cells", lambda: cell_map(self.pattern, self.query, self.key))

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if self.is_self and self.query.shared:
            return self.query.once((name, self.pattern, self.key), make)
        key = name, self.pattern, self.query, self.key
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]


@dataclass(eq=False)
class CellMap:
    """Queries and keys sorted by cells (windows); beyond its own cell a token sees special tokens only.

    Attributes:
        rows: indices of the queries of each cell; a cell with fewer than S queries has unused slots at the end.
        columns: indices of the keys of each cell, likewise, followed by the special tokens, which all cells see.
        query, key: their places.
        mask: which keys each query sees; None: all keys of its cell. Unused slots see all keys.
        special: indices of the special queries, which see all keys.
        order: index of each query in the special queries followed by all slots.
        free: True for unused slots.
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
        """Whether query and key of a slot are the same token, or the slot is unused."""
        return (self.rows[:, :, None] == self.columns[:, None]) | self.free[:, :, None]


def cell_map(pattern: Pattern, query: Places, key: Places) -> CellMap | None:
    """Sort queries and keys by the cells of a pattern; return None where it has no cells."""
    of_query, of_key = pattern.cells(query), pattern.cells(key)
    if of_query is None or of_key is None:
        return None
    q_cells, k_cells = of_query.long(), of_key.long()
    used = q_cells[~query.special].unique()  # cells without a query are left out
    rows, has_query = _slots(q_cells, query.special, used)
    cell_keys, has_key = _slots(k_cells, key.special, used)
    special_keys = key.special.nonzero()[:, 0]
    columns = torch.cat([cell_keys, special_keys.expand(len(used), -1)], 1)
    q_places, k_places = query.take(rows), key.take(columns)
    mask = pad(has_key, (0, len(special_keys)), value=True)[:, None]
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
    """Return the tokens of each of the `used` cells, and which slots are used; unused slots have token 0."""
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
    """Query blocks that see the same number of key blocks.

    Attributes:
        rows: indices of the query blocks.
        columns: indices of the key blocks that each of them sees.
        mask: which keys of these blocks each query sees.
    """

    rows: Int[Tensor, "R"]
    columns: Int[Tensor, "R C"]
    mask: Bool[Tensor, "R S CS"]


@dataclass(eq=False)
class BlockMap:
    """The non-empty blocks of a mask.

    Attributes:
        size: S, the number of tokens in a block; the last block is padded with hidden keys.
        groups: all query blocks.
        share: share of the scores that are computed.
    """

    size: int
    groups: list[BlockRows]
    share: float


def block_map(mask: Bool[Tensor, "N M"], size: int) -> BlockMap:
    """Cut a mask into blocks of `size` x `size`, and keep the non-empty ones."""
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
