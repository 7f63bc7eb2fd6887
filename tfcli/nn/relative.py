"""Relative positions: their effect on a query and a key depends on the offset between the two tokens alone.

They act in every layer, on queries and keys (`rotate`) or on the scores (`bias`, or `scores` where these depend on the
query).
"""

from __future__ import annotations

from math import log, prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, Fraction, NotNegative, Positive
from tfcli.nn.places import Places
from tfcli.nn.positions import Placement, Position, angles, check_divides, whole_numbers
from tfcli.nn.resampling import resample
from tfcli.shapes import Bool, Float, Int, Num


class Rope(Position):
    """Rotary positions: queries and keys are rotated by angles proportional to their place (Su et al. 2021, RoFormer).

    Their product then depends on the offset alone (section 3.2.2). With several axes each axis rotates an equal share
    of the channels (axial; Heo et al. 2024). Special tokens are not rotated.

    Args:
        base: the longest wavelength is 2 pi times this many places; images need a smaller one than text.
        layout: which channels make a pair: half (i and i + E/2; GPT-NeoX, Llama) or interleaved (2i and 2i + 1;
            RoFormer, GPT-J). Weights trained with one layout do not fit the other.
        fraction: share of a head's channels that is rotated, the first ones (GPT-NeoX: 0.25).
        sizes: as for `Position`.

    Raises:
        ValueError: the rotated channels cannot be split over the axes, or there is no such layout.
    """

    applies_to = "queries"
    placements = ("shared",)

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        at: Placement = "shared",
        base: Positive = 10_000.0,
        layout: Literal["half", "interleaved"] = "half",
        fraction: Fraction = 1.0,
        **sizes: Any,
    ):
        super().__init__(width, heads=heads, at=at, **sizes)
        if layout not in ("half", "interleaved"):
            raise ValueError(f"`pos.layout` must be half or interleaved, but is {layout!r}.")
        self.base, self.layout = base, layout
        self.rotated_width = int(width // heads * fraction)
        check_divides("the rotated width of a head", self.rotated_width, 2 * len(self.extent), self.extent)

    def rotate(self, t: Float[Tensor, "B H N E"], places: Places) -> Float[Tensor, "B H N E"]:
        width = self.rotated_width
        cos, sin = places.once(("cos, sin", width, self.base, t.dtype), lambda: self._cos_sin(places, t.dtype))
        if not places.shared:
            cos, sin = cos.unsqueeze(-3), sin.unsqueeze(-3)  # one for all heads
        first, rest = t[..., :width], t[..., width:]
        a, b = first.chunk(2, -1) if self.layout == "half" else (first[..., ::2], first[..., 1::2])
        pair = (a * cos - b * sin, b * cos + a * sin)
        rotated = torch.cat(pair, -1) if self.layout == "half" else torch.stack(pair, -1).flatten(-2)
        return torch.cat([rotated, rest], -1) if rest.shape[-1] else rotated

    def _cos_sin(self, places: Places, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        angle = angles(places, self.rotated_width // 2, self.base).masked_fill(places.special[..., None], 0.0)
        return angle.cos().to(dtype), angle.sin().to(dtype)


class Alibi(Position):
    """A penalty on the scores, linear in the distance, with a fixed slope for each head (Press et al. 2022, section 3).

    With several axes the distances add up. Special tokens have distance 0 to every token.
    """

    applies_to = "scores"
    placements = ("shared",)
    slopes: Tensor

    def __init__(self, width: int, *, heads: int, at: Placement = "shared", **sizes: Any):
        super().__init__(width, heads=heads, at=at, **sizes)
        self.register_buffer("slopes", torch.tensor(alibi_slopes(heads)), persistent=False)

    def bias(self, query: Places, key: Places) -> Float[Tensor, "*b H N M"]:
        distance = (query.coords[..., :, None, :] - key.coords[..., None, :, :]).abs().sum(-1)
        distance = distance.masked_fill(either_special(query, key), 0)
        return -self.slopes[:, None, None] * distance.unsqueeze(-3)


def alibi_slopes(heads: int) -> list[float]:
    """Return 2^(-8 h / H) for h = 1..H where H is a power of two.

    Otherwise return the slopes of the next smaller power of two, then every second slope of twice that power.
    """
    power = 2 ** (heads.bit_length() - 1)
    slopes = [2 ** (-8 * (h + 1) / power) for h in range(power)]
    return slopes + [2 ** (-4 * (h + 1) / power) for h in range(0, 2 * (heads - power), 2)]


class Relative(Position):
    """The score bias q . r, where r is learned for the offset between query and key (Shaw et al. 2018, equation 4).

    The term that the paper adds to the values is left out, as in Music Transformer and ViT. Special tokens have vectors
    of their own, one for each as a query, as a key, and for each pair of them.

    Args:
        flat: offsets on the flattened grid (Dosovitskiy et al. 2021, appendix D.4: "1-dimensional relative attention");
            false: the vectors of the offsets on each axis add up.
        max_distance: larger offsets use the vector of this one; null: there is no limit.
        std: standard deviation of the initial vectors.
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
        flat: bool = True,
        max_distance: Count | None = None,
        std: NotNegative = 0.02,
        **sizes: Any,
    ):
        super().__init__(width, heads=heads, at=at, **sizes)
        self.flat, self.max_distance, self.std = flat, max_distance, std
        self.reach = self._reach(self.extent)
        rows = sum(2 * far + 1 for far in self.reach) + pairs(self.special)
        self.table = nn.Parameter(torch.empty(rows, width // heads))
        self.reset_parameters()

    def _reach(self, extent: tuple[int, ...]) -> list[int]:
        """Return the largest offset on each axis (or on the flattened grid) that has a vector."""
        sizes = (prod(extent),) if self.flat else extent
        return [size - 1 if self.max_distance is None else min(size - 1, self.max_distance) for size in sizes]

    def _on(self, extent: tuple[int, ...]) -> tuple[Tensor, list[int]]:
        """Return the table resampled for a grid, and its reach; tables of text are never stretched."""
        reach = self.reach if len(extent) == 1 or extent == self.extent else self._reach(extent)
        if reach == self.reach:
            return self.table, reach
        *axes, special = self.table.split([*(2 * far + 1 for far in self.reach), pairs(self.special)])
        steps = [resample(t, (len(t), 1), (2 * far + 1, 1)) for t, far in zip(axes, reach, strict=True)]
        return torch.cat([*steps, special]), reach

    def scores(
        self, q: Float[Tensor, "*b H N E"], k: Float[Tensor, "*b H M E"], query: Places, key: Places
    ) -> Float[Tensor, "*b H N M"]:
        """Return the product of each query with the vector of its offset to each key."""
        table, reach = self._on(query.extent)
        products = (q * q.shape[-1] ** -0.5) @ table.to(q).T  # (*b, H, N, offsets)
        whole_numbers(query.coords, self)
        both = either_special(query, key).unsqueeze(-3)  # for all heads
        rows = special_pairs(query, key, self.special) + (len(table) - pairs(self.special))
        total, start = None, 0
        for axis, far in enumerate(reach):
            offset = offsets(query, key, None if self.flat else axis).clamp(-far, far) + far + start
            index = torch.where(both, rows.unsqueeze(-3), offset.unsqueeze(-3)) if axis == 0 else offset.unsqueeze(-3)
            picked = products.gather(-1, index.expand(*q.shape[:-1], -1))
            total = picked if total is None else total + picked.masked_fill(both, 0)
            start += 2 * far + 1
        assert total is not None
        return total


class RelativeBuckets(Position):
    """A learned score bias for each head and bucket of offsets (Raffel et al. 2020, T5, section 2.1).

    Half of the buckets hold one offset each; the others grow logarithmically, up to `max_distance`. With several axes
    each axis has its own buckets and their numbers add up. Special tokens have numbers of their own.

    Args:
        buckets: number of buckets on each axis, for both directions.
        max_distance: larger offsets share the last bucket.
        bidirectional: whether keys after the query have buckets (an encoder's); false for a causal stack.
        std: standard deviation of the initial numbers.
        sizes: as for `Position`.

    Raises:
        ValueError: there are too few buckets.
    """

    applies_to = "scores"
    placements = ("every", "shared")

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        at: Placement = "shared",
        buckets: Count = 32,
        max_distance: Count = 128,
        bidirectional: bool = True,
        std: NotNegative = 0.02,
        **sizes: Any,
    ):
        super().__init__(width, heads=heads, at=at, **sizes)
        if buckets < 4 or buckets % 2 or max_distance <= buckets // 2:
            raise ValueError(
                f"`pos.buckets` must be an even number of at least 4 and less than twice `pos.max_distance`, "
                f"but is {buckets} for {max_distance}."
            )
        self.buckets, self.max_distance, self.bidirectional, self.std = buckets, max_distance, bidirectional, std
        self.table = nn.Parameter(torch.empty(len(self.extent) * buckets + pairs(self.special), heads))
        self.reset_parameters()

    def bucket(self, offset: Num[Tensor, "*b N M"]) -> Int[Tensor, "*b N M"]:
        """Return the bucket of each offset, key minus query."""
        half = self.buckets // 2 if self.bidirectional else self.buckets
        offset = offset.long()
        first = torch.where(offset > 0, half, 0) if self.bidirectional else torch.zeros_like(offset)
        distance = offset.abs() if self.bidirectional else (-offset).clamp(min=0)
        exact = half // 2
        share = (distance.clamp(min=1).float() / exact).log() / log(self.max_distance / exact)
        far = exact + (share * (half - exact)).long()  # in T5's order: at a border its rounding decides
        return first + torch.where(distance < exact, distance, far.clamp(max=half - 1))

    def bias(self, query: Places, key: Places) -> Float[Tensor, "*b H N M"]:
        both = either_special(query, key)
        axes = len(query.extent)
        own = self.table[special_pairs(query, key, self.special) + axes * self.buckets] if self.special else 0.0
        total = sum(self.table[self.bucket(-offsets(query, key, axis)) + axis * self.buckets] for axis in range(axes))
        return torch.where(both[..., None], own, total).movedim(-1, -3)


def offsets(query: Places, key: Places, axis: int | None) -> Num[Tensor, "*b N M"]:
    """Return the offset of each pair, query minus key, on one axis or on the flattened grid."""
    one, other = ((p.flat if axis is None else p.coords[..., axis]) for p in (query, key))
    return one[..., :, None] - other[..., None, :]


def either_special(query: Places, key: Places) -> Bool[Tensor, "*b N M"]:
    """Return which pairs contain a special token."""
    return query.special[..., :, None] | key.special[..., None, :]


def pairs(special: int) -> int:
    """Return the number of rows of a table for pairs with a special token: as the query, as the key, as both."""
    return special * (special + 2)


def special_pairs(query: Places, key: Places, special: int) -> Int[Tensor, "*b N M"]:
    """Return the row, from 0, of each pair with a special token; 0 for other pairs."""
    s, t = query.flat.long()[..., :, None], key.flat.long()[..., None, :]
    query_special, key_special = query.special[..., :, None], key.special[..., None, :]
    row = torch.where(query_special, s, torch.where(key_special, special + t, 0))
    return torch.where(query_special & key_special, special * 2 + s * special + t, row)
