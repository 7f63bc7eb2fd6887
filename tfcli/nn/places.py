"""Coordinates of tokens. Positional embeddings and attention patterns are functions of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from tfcli.shapes import Bool, Float, Int, Num


@dataclass(frozen=True, eq=False)
class Places:
    """Coordinates of N tokens on A axes (1 text, 2 image, 3 video), including special tokens.

    Special tokens (class token, registers) have no place: in every pattern they see all tokens and all tokens see them,
    and only learned tables have entries for them. Their first coordinate is their index, the others are 0.

    All samples of a batch share `(N, A)` coordinates, and masks and angles are computed from them once (`once`). Where
    each sample has its own, `(B, N, A)`, they are new in each pass: nothing is cached, and no operation on their values
    makes a GPU synchronise.

    Attributes:
        coords: coordinates, whole or real numbers; tables and random blocks need whole numbers.
        special: True for special tokens.
        extent: size of each axis; coordinates are less than it.
    """

    coords: Num[Tensor, "*b N A"]
    special: Bool[Tensor, "*b N"]
    extent: tuple[int, ...]
    _memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def grid(cls, *extent: int, special: int = 0) -> Places:
        """Return `special` special tokens followed by all points of a grid in row-major order."""
        points = torch.cartesian_prod(*(torch.arange(size) for size in extent)).reshape(prod(extent), len(extent))
        ordinals = torch.zeros(special, len(extent), dtype=points.dtype)
        ordinals[:, 0] = torch.arange(special)
        is_special = torch.arange(special + len(points)) < special
        return cls(torch.cat([ordinals, points]), is_special, tuple(extent))

    @staticmethod
    def line(length: int, *, start: int = 0, extent: int | None = None) -> Places:
        """Return `length` tokens of text from `start` on, in a context of `extent` (default: up to the last token).

        Equal arguments return the same object, so that its cached values (`once`) are reused.
        """
        return _line(length, start, extent or start + length)

    def __len__(self) -> int:
        return self.coords.shape[-2]

    @property
    def shared(self) -> bool:
        """Whether all samples of a batch share these places."""
        return self.coords.ndim == 2

    def __getitem__(self, index: Tensor | slice) -> Places:
        """Return the places of some of the tokens, the same tokens in each sample."""
        return Places(self.coords[..., index, :], self.special[..., index], self.extent)

    def take(self, index: Int[Tensor, "*b K"]) -> Places:
        """Return the places of the tokens that each sample keeps, `x.take_along_dim(index[..., None], 1)`."""
        if self.shared:
            return Places(self.coords[index], self.special[index], self.extent)
        return Places(
            self.coords.take_along_dim(index[..., None], -2), self.special.take_along_dim(index, -1), self.extent
        )

    def of_samples(self, rows: Int[Tensor, "R"]) -> Places:
        """Return the places of some samples; shared places are returned unchanged."""
        return self if self.shared else Places(self.coords[rows], self.special[rows], self.extent)

    def then(self, other: Places) -> Places:
        """Return these places followed by others on the same axes."""
        coords = _joined(self.coords, other.coords, ndim=2)
        both = Places(coords, _joined(self.special, other.special, ndim=1), self.extent)
        before, after = self.span, other.span
        if before and after and before[1] < after[0]:
            both._memo["span"] = before[0], after[1]
        return both

    def to(self, device: torch.device) -> Places:
        """Return these places on a device."""
        if self.coords.device == device:
            return self
        return self.once(device, lambda: self._moved(device))

    def _moved(self, device: torch.device) -> Places:
        known: dict[Hashable, Any] = {"span": self._memo["span"]} if "span" in self._memo else {}
        return Places(self.coords.to(device), self.special.to(device), self.extent, known)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the cached value for `key`, computing it by `make` on first use; only shared places cache."""
        if key in self._memo:
            return self._memo[key]
        if not self.shared:
            return make()
        with torch.inference_mode(False):  # a value first computed in validation is also used in training
            self._memo[key] = made = make()
        return made

    @property
    def flat(self) -> Num[Tensor, "*b N"]:
        """Row-major index of each point on the grid; of a special token, its index among these."""
        return torch.where(self.special, self.coords[..., 0], flatten(self.coords, self.extent))

    def rows(self, special: int) -> Int[Tensor, "*b N"]:
        """Return the row of each token in a table of `special` special tokens followed by the grid."""
        return torch.where(self.special, self.flat, self.flat + special)

    def of_table(self, table: Float[Tensor, "R D"], special: int) -> Float[Tensor, "*b N D"]:
        """Return the row of each token (see `rows`); a slice of the table where the tokens are consecutive."""
        span = self.span
        if span is not None and span[1] - span[0] == len(self) - 1:
            return table.narrow(0, special + span[0], len(self))
        return table[self.rows(special)]

    @property
    def in_line(self) -> bool:
        """Whether the tokens stand on one axis in rising order, without special tokens."""
        return self.span is not None

    @property
    def span(self) -> tuple[int, int] | None:
        """The first and the last coordinate of tokens in line (see `in_line`); None where they are not in line."""
        return self.once("span", lambda: _span(self))

    def follows(self, other: Places) -> bool:
        """Whether, all being in line, no token of `other` stands after the first of these."""
        these, those = self.span, other.span
        return these is not None and those is not None and those[1] <= these[0]


@lru_cache(maxsize=256)
def _line(length: int, start: int, extent: int) -> Places:
    with torch.inference_mode(False):  # see `once`
        coords = torch.arange(start, start + length, device="cpu")[:, None]
        special = torch.zeros(length, dtype=torch.bool, device="cpu")
    return Places(coords, special, (extent,), {"span": (start, start + length - 1)} if length else {})


def flatten(coords: Num[Tensor, "*shape A"], extent: tuple[int, ...]) -> Num[Tensor, "*shape"]:
    """Return the row-major index of points on a grid."""
    index = torch.zeros_like(coords[..., 0])
    for axis, size in enumerate(extent):
        index = index * size + coords[..., axis]
    return index


def _joined(one: Tensor, other: Tensor, *, ndim: int) -> Tensor:
    """Concatenate along the token axis; shared places are repeated where the others differ by sample."""
    if one.shape[:-ndim] == other.shape[:-ndim]:
        return torch.cat([one, other], -ndim)
    batch = torch.broadcast_shapes(one.shape[:-ndim], other.shape[:-ndim])
    return torch.cat([t.expand(*batch, *t.shape[t.ndim - ndim :]) for t in (one, other)], -ndim)


def _span(places: Places) -> tuple[int, int] | None:
    line = places.coords[..., 0]
    if not places.shared or len(places.extent) > 1 or not len(places):
        return None
    if line.is_floating_point() or not bool((line.diff() > 0).all() & ~places.special.any()):
        return None
    return int(line[0]), int(line[-1])
