"""Relative position bias from a table: each head adds a learned number to the score for the offset of query and key."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, NotNegative
from tfcli.nn.places import Places
from tfcli.nn.positions import Placement, Position, whole_numbers
from tfcli.nn.relative import either_special, offsets, pairs, special_pairs
from tfcli.nn.resampling import Resampling, resample
from tfcli.shapes import Float, Int


class RelativeTable(Position):
    """A learned score bias for each head and offset (Liu et al. 2021, Swin, equation 4; Bao et al. 2022, BEiT).

    Rows are the offsets, query minus key, in row-major order from the most negative one on, then those of special
    tokens: each as a query, each as a key, each pair of them. This is the layout of Swin, BEiT and their successors in
    timm and transformers.

    Args:
        size: side of the square (in text: the length) within which offsets have rows of their own, as a window in
            Swin; farther offsets use the row of the farthest. None: the side of the grid.
        class_rows: whether special tokens have rows, as BEiT's class token does; otherwise their scores get no bias.
        std: standard deviation of the initial numbers.
        resample: library whose interpolation rule is used for another grid, where `size` is null.
        sizes: as for `Position`.
    """

    applies_to = "scores"
    placements = ("every", "shared")

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        at: Placement = "every",
        size: Count | None = None,
        class_rows: bool = True,
        std: NotNegative = 0.02,
        resample: Resampling = "transformers",
        **sizes: Any,
    ):
        super().__init__(width, heads=heads, at=at, **sizes)
        self.sides, self.of_window = self.extent if size is None else (size,) * len(self.extent), size is not None
        self.special, self.std, self.resample = self.special if class_rows else 0, std, resample
        self.table = nn.Parameter(torch.empty(prod(2 * side - 1 for side in self.sides) + pairs(self.special), heads))
        self.reset_parameters()

    def on(self, extent: tuple[int, ...]) -> tuple[int, ...]:
        """Return the sides of the table for a grid of this size."""
        return self.sides if self.of_window or len(extent) == 1 else extent

    def _table(self, extent: tuple[int, ...]) -> Tensor:
        if self.on(extent) == self.sides:
            return self.table
        before, after = (tuple(2 * side - 1 for side in sides) for sides in (self.sides, self.on(extent)))
        steps, special = self.table.split([prod(before), pairs(self.special)])
        return torch.cat([resample(steps, before, after, rule=self.resample), special])

    def rows(self, query: Places, key: Places) -> Int[Tensor, "*b N M"]:
        """Return the row of the table for each pair."""
        whole_numbers(query.coords, self)
        row, sides = None, self.on(query.extent)
        for axis, side in enumerate(sides):
            step = offsets(query, key, axis).clamp(1 - side, side - 1) + side - 1
            row = step if row is None else row * (2 * side - 1) + step
        assert row is not None
        if not self.special:
            return row
        after = prod(2 * side - 1 for side in sides)
        return torch.where(either_special(query, key), special_pairs(query, key, self.special) + after, row)

    def bias(self, query: Places, key: Places) -> Float[Tensor, "*b H N M"]:
        bias = self._table(query.extent)[self.rows(query, key)].movedim(-1, -3)
        return bias if self.special else bias.masked_fill(either_special(query, key).unsqueeze(-3), 0)
