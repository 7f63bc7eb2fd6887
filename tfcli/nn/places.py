"""Coordinates of tokens, of which positions and patterns are functions."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from tfcli.shapes import Bool, Float, Int


@dataclass(frozen=True, eq=False)
class Places:
    """Coordinates of N tokens on A axes (1 text, 2 image, 3 video), special tokens among them.

    Special tokens (class token, registers) stand nowhere: a pattern lets them see and be seen by everything, and only
    learned tables give them entries of their own. Their first coordinate is their ordinal, the other coordinates
    are 0.

    Attributes:
        coords: integer coordinates.
        special: True for special tokens.
        extent: size of each axis; coordinates lie below it.
    """

    coords: Int[Tensor, "N A"]
    special: Bool[Tensor, "N"]
    extent: tuple[int, ...]
    _memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def grid(cls, *extent: int, special: int = 0) -> Places:
        """All points of a grid in row-major order, after `special` special tokens."""
        points = torch.cartesian_prod(*(torch.arange(size) for size in extent)).reshape(prod(extent), len(extent))
        ordinals = torch.zeros(special, len(extent), dtype=points.dtype)
        ordinals[:, 0] = torch.arange(special)
        return cls(torch.cat([ordinals, points]), torch.arange(special + len(points)) < special, tuple(extent))

    @staticmethod
    def line(length: int, *, start: int = 0, extent: int | None = None) -> Places:
        """Text: `length` tokens in line from `start` on, of a context of `extent` (default: as far as they reach).

        Equal ones are one object, so that what was worked out for it (`once`) is there the next time.
        """
        return _line(length, start, extent or start + length)

    def __len__(self) -> int:
        return len(self.coords)

    def __getitem__(self, index: Tensor | slice) -> Places:
        """The places of some of the tokens, as `index` picks them."""
        return Places(self.coords[index], self.special[index], self.extent)

    def then(self, other: Places) -> Places:
        """These places followed by others on the same axes."""
        coords, special = torch.cat([self.coords, other.coords]), torch.cat([self.special, other.special])
        both = Places(coords, special, self.extent)
        if self.span and other.span and self.span[1] < other.span[0]:
            both._memo["span"] = self.span[0], other.span[1]
        return both

    def to(self, device: torch.device) -> Places:
        if self.coords.device == device:
            return self
        return self.once(device, lambda: self._moved(device))

    def _moved(self, device: torch.device) -> Places:
        known: dict[Hashable, Any] = {"span": self._memo["span"]} if "span" in self._memo else {}
        return Places(self.coords.to(device), self.special.to(device), self.extent, known)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the cached value for `key`, computing it by `make` on first use (places never change)."""
        if key not in self._memo:
            with torch.inference_mode(False):  # what is first asked for in validation serves training, too
                self._memo[key] = make()
        return self._memo[key]

    @property
    def flat(self) -> Int[Tensor, "N"]:
        """Row-major index of each point on the grid; for a special token, its ordinal."""
        return torch.where(self.special, self.coords[:, 0], flatten(self.coords, self.extent))

    def rows(self, special: int) -> Int[Tensor, "N"]:
        """The row of each token in a table of `special` special tokens and then the grid."""
        return torch.where(self.special, self.flat, self.flat + special)

    def of_table(self, table: Float[Tensor, "R D"], special: int) -> Float[Tensor, "N D"]:
        """Their rows of it, as `rows` numbers them: of tokens in line, without a gap, a slice."""
        if self.span is not None and self.span[1] - self.span[0] == len(self) - 1:
            return table.narrow(0, special + self.span[0], len(self))
        return table[self.rows(special)]

    @property
    def in_line(self) -> bool:
        """Whether the tokens stand on one axis in rising order, with no special ones among them."""
        return self.span is not None

    @property
    def span(self) -> tuple[int, int] | None:
        """The first and the last coordinate of tokens in line (see `in_line`); None where they are not."""
        return self.once("span", lambda: _span(self))

    def follows(self, other: Places) -> bool:
        """Whether all of `other` stand before these or where the first of these stands, all in line."""
        return self.span is not None and other.span is not None and other.span[1] <= self.span[0]


@lru_cache(maxsize=256)
def _line(length: int, start: int, extent: int) -> Places:
    with torch.inference_mode(False):  # see `once`
        coords = torch.arange(start, start + length, device="cpu")[:, None]
        special = torch.zeros(length, dtype=torch.bool, device="cpu")
    return Places(coords, special, (extent,), {"span": (start, start + length - 1)} if length else {})


def flatten(coords: Int[Tensor, "*shape A"], extent: tuple[int, ...]) -> Int[Tensor, "*shape"]:
    """Row-major index of points on a grid."""
    index = torch.zeros_like(coords[..., 0])
    for axis, size in enumerate(extent):
        index = index * size + coords[..., axis]
    return index


def _span(places: Places) -> tuple[int, int] | None:
    line = places.coords[:, 0]
    if len(places.extent) > 1 or not len(places) or not bool((line.diff() > 0).all() & ~places.special.any()):
        return None
    return int(line[0]), int(line[-1])
