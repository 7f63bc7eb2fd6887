"""Positions as a table of offsets: scores gain a learned number for each head and step from query to key."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, NotNegative
from tfcli.nn.places import Places
from tfcli.nn.positions import Placement, Position, whole_numbers
from tfcli.nn.relative import either_special, offsets, pairs, special_pairs
from tfcli.shapes import Float, Int


class RelativeTable(Position):
    """Scores gain a learned number for each head and offset (Liu et al. 2021, Swin, equation 4; Bao et al. 2022, BEiT).

    Rows are the offsets, query minus key, in row-major order from the most negative one on, then those of special
    tokens: each as a query, each as a key, each pair of them. So do Swin, BEiT and their successors in timm and
    transformers.

    Args:
        size: side of the square (in text: the length) within which offsets have rows of their own, as a window of
            Swin's; farther ones count as the farthest. None: that of the grid.
        class_rows: whether special tokens have rows, as BEiT's class token; otherwise their scores gain nothing.
        std: standard deviation of the initial numbers.
    """

    acts = "scores"
    placements = ("every", "shared")

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        extent: tuple[int, ...],
        special: int,
        at: Placement = "every",
        size: Count | None = None,
        class_rows: bool = True,
        std: NotNegative = 0.02,
    ):
        super().__init__(width, heads=heads, extent=extent, special=special, at=at)
        self.sides = extent if size is None else (size,) * len(extent)
        self.special, self.std = special if class_rows else 0, std
        self.table = nn.Parameter(torch.empty(prod(2 * side - 1 for side in self.sides) + pairs(self.special), heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.table, std=self.std)

    def rows(self, query: Places, key: Places) -> Int[Tensor, "*b N M"]:
        """Return the row of the table for each pair."""
        whole_numbers(query.coords, self)
        row = None
        for axis, side in enumerate(self.sides):
            step = offsets(query, key, axis).clamp(1 - side, side - 1) + side - 1
            row = step if row is None else row * (2 * side - 1) + step
        assert row is not None
        if not self.special:
            return row
        after = len(self.table) - pairs(self.special)
        return torch.where(either_special(query, key), special_pairs(query, key, self.special) + after, row)

    def bias(self, query: Places, key: Places) -> Float[Tensor, "*b H N M"]:
        bias = self.table[self.rows(query, key)].movedim(-1, -3)
        return bias if self.special else bias.masked_fill(either_special(query, key).unsqueeze(-3), 0)
