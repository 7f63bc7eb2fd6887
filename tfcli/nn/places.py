"""Where tokens stand: the coordinates that positions and patterns are functions of."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from tfcli.shapes import Bool, Int


@dataclass(frozen=True, eq=False)
class Places:
    """Coordinates of N tokens on A axes (1 text, 2 image, 3 video), special tokens among them.

    Special tokens (class token, registers) stand nowhere: a pattern lets them see and be seen by everything, and only
    a learned table gives them an entry of their own. Their first coordinate is their ordinal, the other coordinates
    are 0.

    Attributes:
        coords: integer coordinates.
        special: True for special tokens.
        extent: size of each axis; coordinates lie below it.
    """

    coords: Int[Tensor, "N A"]
    special: Bool[Tensor, "N"]
    extent: tuple[int, ...]

    @classmethod
    def grid(cls, *extent: int, special: int = 0) -> Places:
        """All points of a grid in row-major order, after `special` special tokens."""
        points = torch.cartesian_prod(*(torch.arange(size) for size in extent)).reshape(prod(extent), len(extent))
        ordinals = torch.zeros(special, len(extent), dtype=points.dtype)
        ordinals[:, 0] = torch.arange(special)
        return cls(torch.cat([ordinals, points]), torch.arange(special + len(points)) < special, tuple(extent))

    def __len__(self) -> int:
        return len(self.coords)

    def __getitem__(self, index: Tensor | slice) -> Places:
        """The places of some of the tokens, as `index` picks them."""
        return Places(self.coords[index], self.special[index], self.extent)

    def to(self, device: torch.device) -> Places:
        if self.coords.device == device:
            return self
        return Places(self.coords.to(device), self.special.to(device), self.extent)

    @property
    def flat(self) -> Int[Tensor, "N"]:
        """Row-major index of each point on the grid; for a special token, its ordinal."""
        index = torch.zeros_like(self.coords[:, 0])
        for axis, size in enumerate(self.extent):
            index = index * size + self.coords[:, axis]
        return torch.where(self.special, self.coords[:, 0], index)
