"""Positional embeddings: they tell attention where each token stands, in text, images and video alike.

A position acts on the tokens (`add`), on queries and keys (`rotate`), or on the scores (`bias`, or `scores` where they
depend on queries or keys). `at` chooses the layers: `stem` adds once, before the first layer; `every` acts in every
layer with a table of its own, `shared` in every layer with one table (Dosovitskiy et al. 2021, appendix D.4). Positions
that act on queries, keys or scores act in every layer, so they refuse `stem`.
"""

from __future__ import annotations

from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tfcli.bounds import Natural, NotNegative, Positive
from tfcli.errors import IncompatibleError
from tfcli.nn.places import Places
from tfcli.nn.resampling import Resampling, resample
from tfcli.shapes import Float, Int, Num

Placement = Literal["stem", "every", "shared"]
PLACEMENTS = ("stem", "every", "shared")


class Position(nn.Module):
    """No position, so that attention sees a bag of tokens; also the base class of all kinds, whose hooks do nothing.

    The stack builds it as `pos(width, heads=..., extent=..., special=...)`; subclasses call these the `sizes`.

    Args:
        width: D of the tokens.
        heads: H of the attention.
        extent: size of each axis of the coordinates.
        special: number of special tokens before the grid.
        at: layers in which it acts: stem (before the first one), every (in each, with tables of its own) or shared (in
            each, with the same tables).

    Attributes:
        applies_to: tokens, queries, scores, or None: the part of attention on which it acts.
        placements: the values that `at` can have.
        std: standard deviation of the initial values of its learned tables.

    Raises:
        ValueError: `at` has a value that this kind does not support.
    """

    applies_to: str | None = None
    placements: tuple[str, ...] = ("stem",)
    std: float = 0.02

    def __init__(self, width: int, *, heads: int, extent: tuple[int, ...], special: int, at: Placement = "stem"):
        super().__init__()
        if at not in PLACEMENTS:
            raise ValueError(f"`pos.at` must be one of {', '.join(PLACEMENTS)}, but is {at!r}.")
        if at not in self.placements:
            raise ValueError(
                f"`pos.at` must be {' or '.join(self.placements)} for {type(self).__name__}, but is {at!r}."
            )
        self.at, self.extent, self.special = at, extent, special

    def reset_parameters(self) -> None:
        """Draw the learned tables from N(0, std^2)."""
        for table in self.parameters():
            nn.init.normal_(table, std=self.std)

    @property
    def undecayed(self) -> tuple[str, ...]:
        """Return the names of the parameters without weight decay: all, since they are position tables."""
        return tuple(name for name, _ in self.named_parameters())

    def add(self, x: Float[Tensor, "B N D"], places: Places) -> Float[Tensor, "B N D"]:
        """Return the tokens with their positions added."""
        return x

    def rotate(self, t: Float[Tensor, "B H N E"], places: Places) -> Float[Tensor, "B H N E"]:
        """Return queries or keys rotated by their positions."""
        return t

    def bias(self, query: Places, key: Places) -> Float[Tensor, "*b H N M"] | None:
        """Return the part of the score bias that depends on the places alone; None where there is none."""
        return None

    def scores(
        self, q: Float[Tensor, "*b H N E"], k: Float[Tensor, "*b H M E"], query: Places, key: Places
    ) -> Float[Tensor, "*b H N M"] | None:
        """Return the part of the score bias that depends on queries or keys, too; None where there is none."""
        return None


class Added(Position):
    """Base class of positions that add a vector to each token, at the stem or before every layer."""

    applies_to = "tokens"
    placements = PLACEMENTS

    def vectors(self, places: Places) -> Float[Tensor, "*b N D"]:
        """Return the vector of each place."""
        raise NotImplementedError

    def add(self, x: Float[Tensor, "B N D"], places: Places) -> Float[Tensor, "B N D"]:
        return x + self.vectors(places).to(x)


class Learned(Added):
    """One learned vector for each place of the flattened grid and each special token (ViT's default; BERT, GPT).

    On a grid of another size the table is resampled.

    Args:
        std: standard deviation of the initial vectors.
        resample: library whose interpolation rule is used for that: the one that the checkpoint comes from.
        sizes: as for `Position`.
    """

    def __init__(self, width: int, *, std: NotNegative = 0.02, resample: Resampling = "transformers", **sizes: Any):
        super().__init__(width, **sizes)
        self.std, self.resample = std, resample
        self.table = nn.Parameter(torch.empty(self.special + prod(self.extent), width))
        self.reset_parameters()

    def vectors(self, places: Places) -> Float[Tensor, "*b N D"]:
        whole_numbers(places.coords, self)
        return places.of_table(on_grid(self.table, self.special, self.extent, places, self.resample), self.special)


class Learned2d(Added):
    """A learned vector for each row and one for each column, side by side (Dosovitskiy et al. 2021, appendix D.4).

    The axes share the width evenly; with one axis (text) this is `Learned`. Special tokens have vectors of their own.

    Args:
        std: standard deviation of the initial vectors.
        sizes: as for `Position`.

    Raises:
        ValueError: the number of axes does not divide the width.
    """

    def __init__(self, width: int, *, std: NotNegative = 0.02, **sizes: Any):
        super().__init__(width, **sizes)
        axes = len(self.extent)
        check_divides("`width`", width, axes, self.extent)
        self.tables = nn.ParameterList(nn.Parameter(torch.empty(size, width // axes)) for size in self.extent)
        self.own = nn.Parameter(torch.empty(self.special, width)) if self.special else None
        self.std = std
        self.reset_parameters()

    def _resampled(self, extent: tuple[int, ...]) -> list[Tensor]:
        """Return the tables for a grid of another size; tables of text, on one axis, are never stretched."""
        if len(extent) == 1:
            return list(self.tables)
        sizes = zip(self.tables, self.extent, extent, strict=True)
        return [resample(table, (before, 1), (after, 1)) for table, before, after in sizes]

    def vectors(self, places: Places) -> Float[Tensor, "*b N D"]:
        points = whole_numbers(places.coords, self).masked_fill(places.special[..., None], 0)
        tables = self.tables if places.extent == self.extent else self._resampled(places.extent)
        table = torch.cat([table[points[..., axis]] for axis, table in enumerate(tables)], -1)
        if self.own is None:
            return table
        ordinal = places.coords[..., 0].clamp(max=len(self.own) - 1)
        return torch.where(places.special[..., None], self.own[ordinal], table)


class Random(Added):
    """One fixed random vector for each place and each special token: it identifies places, but not which are near.

    Args:
        std: standard deviation of the vectors.
        seed: of the vectors, which the checkpoint also stores.
        sizes: as for `Position`.
    """

    table: Tensor

    def __init__(self, width: int, *, std: NotNegative = 0.02, seed: Natural = 0, **sizes: Any):
        super().__init__(width, **sizes)
        rows, generator = self.special + prod(self.extent), torch.Generator().manual_seed(seed)
        drawn = torch.randn(rows, width, generator=generator, device="cpu")
        self.register_buffer("table", std * drawn.to(torch.get_default_device()))

    def vectors(self, places: Places) -> Float[Tensor, "*b N D"]:
        whole_numbers(places.coords, self)
        return places.of_table(on_grid(self.table, self.special, self.extent, places), self.special)


class Sinusoidal(Added):
    """Fixed sines and cosines, the width split evenly over the axes (Vaswani et al. 2017, section 3.5).

    All sines come first, then all cosines (tensor2tensor's layout; the paper interleaves them, which is a permutation
    of channels). Special tokens get zeros. With two axes this is the table of MAE and MoCo v3 up to the order of
    channels.

    Args:
        base: the longest wavelength is 2 pi times this many places.
        sizes: as for `Position`.

    Raises:
        ValueError: the width is not a multiple of twice the number of axes.
    """

    def __init__(self, width: int, *, base: Positive = 10_000.0, **sizes: Any):
        super().__init__(width, **sizes)
        check_divides("`width`", width, 2 * len(self.extent), self.extent)
        self.width, self.base = width, base

    def vectors(self, places: Places) -> Float[Tensor, "*b N D"]:
        """Return the sines and cosines at `places`; the product of two rows depends on their offset alone."""
        return places.once(("sinusoids", self.width, self.base), lambda: self._vectors(places))

    def _vectors(self, places: Places) -> Tensor:
        angle = angles(places, self.width // 2, self.base)
        return torch.cat([angle.sin(), angle.cos()], -1).masked_fill(places.special[..., None], 0.0)


def angles(places: Places, share: int, base: float) -> Float[Tensor, "*b N share"]:
    """Return coordinates times rates that fall from 1 to almost 1 / `base`, the axes side by side."""
    axes = places.coords.shape[-1]
    rates = base ** -(torch.arange(share // axes, device=places.coords.device) / (share // axes))
    return (places.coords[..., None] * rates).flatten(-2)


def on_grid(
    table: Float[Tensor, "R D"], special: int, extent: tuple[int, ...], places: Places, rule: str = "transformers"
) -> Float[Tensor, "S D"]:
    """Return a table of special tokens and grid places, resampled for the grid on which these tokens stand."""
    if places.extent == extent or len(extent) == 1:
        return table
    return torch.cat([table[:special], resample(table[special:], extent, places.extent, rule=rule)])


def whole_numbers(coords: Num[Tensor, "*shape"], position: Position) -> Int[Tensor, "*shape"]:
    """Return the coordinates, checked to be whole numbers, since they index the rows of a table.

    Raises:
        IncompatibleError: they are real numbers.
    """
    if coords.is_floating_point():
        raise IncompatibleError(
            f"{type(position).__name__} positions need whole-number coordinates, because they index a table, but these "
            "tokens have real-number coordinates: use `pos=sinusoidal`, `pos=rope` or `pos=alibi`."
        )
    return coords


def check_divides(what: str, width: int, parts: int, extent: tuple[int, ...]) -> None:
    """Raise ValueError unless `width` is a multiple of `parts`."""
    if width % parts or not width:
        axes = f"{len(extent)} {'axis' if len(extent) == 1 else 'axes'}"
        raise ValueError(f"{what} must be a multiple of {parts} for positions on {axes}, but is {width}.")
