"""Positions: how attention learns where a token stands. Each kind serves text, images and video through coordinates.

A position can act at three points, its hooks: on the tokens (`add`), on queries and keys (`rotate`), on the scores
(`bias`). `at` says where `add` acts: once at the stem, at every layer with a table of its own, or at every layer with
one shared table (Dosovitskiy et al. 2021, appendix D.4).
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from tfcli.nn.places import Places
from tfcli.shapes import Float


class Position(nn.Module):
    """No position: attention over a bag of tokens. The base of all kinds; each hook does nothing by default.

    Built by the stack as `pos(width, heads=..., extent=..., special=...)`; a kind keeps what it needs of these.

    Args:
        width: D of the tokens.
        heads: H of the attention.
        extent: size of each axis of the coordinates.
        special: number of special tokens before the grid.
        at: where `add` acts.
    """

    def __init__(self, width: int, *, heads: int, extent: tuple[int, ...], special: int, at: str = "stem"):
        super().__init__()
        if at not in ("stem", "every", "shared"):
            raise ValueError(f"`pos.at` must be stem, every or shared, but is {at!r}.")
        self.at = at

    def add(self, x: Float[Tensor, "B N D"], places: Places) -> Float[Tensor, "B N D"]:
        return x

    def rotate(self, t: Float[Tensor, "B H N E"], places: Places) -> Float[Tensor, "B H N E"]:
        return t

    def bias(self, query: Places, key: Places) -> Float[Tensor, "H N M"] | None:
        return None


class Learned(Position):
    """One learned vector for each place of the flattened grid and each special token (ViT's default; BERT, GPT).

    Args:
        std: standard deviation of the initial vectors.
    """

    def __init__(
        self, width: int, *, heads: int, extent: tuple[int, ...], special: int, at: str = "stem", std: float = 0.02
    ):
        super().__init__(width, heads=heads, extent=extent, special=special, at=at)
        self.special, self.std = special, std
        self.table = nn.Parameter(torch.empty(special + prod(extent), width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.table, std=self.std)

    def add(self, x: Float[Tensor, "B N D"], places: Places) -> Float[Tensor, "B N D"]:
        return x + self.table[torch.where(places.special, places.flat, places.flat + self.special)]


class Sinusoidal(Position):
    """Fixed sines and cosines, the width split evenly over the axes (Vaswani et al. 2017, section 3.5).

    All sines come first, then all cosines (tensor2tensor's layout; the paper interleaves them, which is a permutation
    of channels). Special tokens get zeros. With two axes this is the table of MAE and MoCo v3 up to the order of
    channels.

    Args:
        base: the longest wavelength is 2 pi times this many places.

    Raises:
        ValueError: the width is not a multiple of twice the number of axes.
    """

    def __init__(
        self, width: int, *, heads: int, extent: tuple[int, ...], special: int, at: str = "stem", base: float = 10_000.0
    ):
        super().__init__(width, heads=heads, extent=extent, special=special, at=at)
        if width % (2 * len(extent)):
            raise ValueError(
                f"`width` must be a multiple of {2 * len(extent)} for sinusoids on {len(extent)} axes, but is {width}."
            )
        self.width, self.base = width, base

    def table(self, places: Places) -> Float[Tensor, "N D"]:
        """The sines and cosines at `places`; the product of two rows depends on their offset alone."""
        share = self.width // (2 * places.coords.shape[1])
        rates = self.base ** -(torch.arange(share, device=places.coords.device) / share)
        angle = (places.coords[:, :, None] * rates).flatten(1)  # (N, D / 2)
        return torch.cat([angle.sin(), angle.cos()], 1).masked_fill(places.special[:, None], 0.0)

    def add(self, x: Float[Tensor, "B N D"], places: Places) -> Float[Tensor, "B N D"]:
        return x + self.table(places).to(x)
