"""Attention patterns: pointwise predicates on coordinates that say whether a query may see a key.

A pattern receives coordinates that broadcast, `(*b, N, 1, A)` and `(*b, 1, M, A)`, and returns booleans `(*b, N, M)`;
the same predicate fills a dense mask and the blocks of a sparse one. Patterns are values: they compare by their fields,
and they combine with `&` and `|`. In every pattern a token sees itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from tfcli.bounds import Count, Natural
from tfcli.errors import IncompatibleError
from tfcli.nn.places import Places, flatten
from tfcli.shapes import Bool, Num

LEAST = {"Count": 1, "Natural": 0}
"""Minimum of a field, by its annotation."""


@dataclass(frozen=True)
class Pattern:
    """Base class of all patterns: which query may attend to which key."""

    def __post_init__(self) -> None:
        for part in fields(self):
            value, least = getattr(self, part.name), LEAST.get(str(part.type))
            if least is not None and (not isinstance(value, int) or value < least):
                raise ValueError(
                    f"`attn.pattern.{part.name}` must be a whole number of at least {least}, but is {value}."
                )

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()}({', '.join(f'{f.name}={getattr(self, f.name)}' for f in fields(self))})"

    @property
    def is_causal(self) -> bool:
        """Whether tokens in line certainly see no later token; False: the mask has to be checked."""
        return False

    def sees(self, q: Num[Tensor, "*n A"], k: Num[Tensor, "*m A"], extent: tuple[int, ...]) -> Bool[Tensor, "*nm"]:
        """Return whether a query at `q` sees a key at `k`, where neither token is special."""
        raise NotImplementedError

    def check(self, extent: tuple[int, ...]) -> None:
        """Refuse axes on which the pattern makes no sense; most patterns accept all.

        Raises:
            IncompatibleError: the pattern makes no sense on these axes.
        """

    def mask(self, query: Places, key: Places) -> Bool[Tensor, "*b N M"]:
        """Return True where the query sees the key; special tokens see all tokens and all tokens see them."""
        seen = self.sees(query.coords[..., :, None, :], key.coords[..., None, :, :], query.extent)
        return seen | query.special[..., :, None] | key.special[..., None, :]

    def covers(self, places: Places) -> bool:
        """Return whether the pattern hides none of these places, or no earlier ones where it is causal."""
        seen = self.mask(places, places)
        return bool((seen | ~Causal().mask(places, places)).all() if self.is_causal else seen.all())

    def filled(self, places: Places) -> Places:
        """Return the places of the keys: those of the tokens, followed by padding if the pattern adds some (Swin)."""
        return places

    def cells(self, places: Places) -> Num[Tensor, "*b N"] | None:
        """Return the number of each token's cell, outside which it sees special tokens only; None: without cells."""
        return None

    def __and__(self, other: Pattern) -> Pattern:
        if isinstance(self, Full):
            return other
        return self if isinstance(other, Full) else Pair(self, other, both=True)

    def __or__(self, other: Pattern) -> Pattern:
        return Full() if isinstance(self, Full) or isinstance(other, Full) else Pair(self, other, both=False)


@dataclass(frozen=True)
class Pair(Pattern):
    """Two patterns combined: a key is visible where both allow it (`&`) or where one of them does (`|`)."""

    one: Pattern
    other: Pattern
    both: bool

    def __str__(self) -> str:
        return f"{self.one} {'&' if self.both else '|'} {self.other}"

    @property
    def is_causal(self) -> bool:
        causal = self.one.is_causal, self.other.is_causal
        return any(causal) if self.both else all(causal)

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        one, other = self.one.sees(q, k, extent), self.other.sees(q, k, extent)
        return one & other if self.both else one | other

    def check(self, extent: tuple[int, ...]) -> None:
        self.one.check(extent)
        self.other.check(extent)

    def cells(self, places: Places) -> Tensor | None:
        one = self.one.cells(places) if self.both else None
        return self.other.cells(places) if self.both and one is None else one


@dataclass(frozen=True)
class Predicate(Pattern):
    """A custom pattern: any function of query and key coordinates `(..., A)` that returns booleans."""

    seen: Callable[[Tensor, Tensor], Tensor]

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        return self.seen(q, k)


@dataclass(frozen=True)
class Full(Pattern):
    """Every token sees every token: no mask at all, which lets the fastest kernels run."""

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        return torch.ones_like((q - k)[..., 0], dtype=torch.bool)


@dataclass(frozen=True)
class Causal(Pattern):
    """A token sees itself and the tokens before it on every axis (on one axis the usual left-to-right mask)."""

    is_causal = True

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        return (k <= q).all(-1)


@dataclass(frozen=True)
class Within(Pattern):
    """A token sees the keys of a memory whose span of text contains it.

    A key's coordinates are the first place of its span and the place after it. If the span of each image begins at the
    image and ends before the next one, a token sees only the last image before it (Alayrac et al. 2022, Flamingo,
    section 2.3: "per-image attention masking").
    """

    def sees(self, q: Num[Tensor, "*n A"], k: Num[Tensor, "*m 2"], extent: tuple[int, ...]) -> Bool[Tensor, "*nm"]:
        return (k[..., 0] <= q[..., 0]) & (q[..., 0] < k[..., 1])


@dataclass(frozen=True)
class Prefix(Pattern):
    """Causal, but all tokens see the first `length` places of the first axis (Raffel et al. 2020, "prefix LM")."""

    length: Count

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        return (k <= q).all(-1) | (k[..., 0] < self.length)


@dataclass(frozen=True)
class SlidingWindow(Pattern):
    """A token sees the tokens within a distance of `size` / 2 on every axis, on both sides (Beltagy et al. 2020)."""

    size: Count

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        return ((q - k).abs() <= self.size // 2).all(-1)


@dataclass(frozen=True)
class Dilated(Pattern):
    """A dilated sliding window: `size` / 2 places on each side, `step` apart (Beltagy et al. 2020, section 3.1)."""

    size: Count
    step: Count = 2

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        offset = (q - k).abs()
        return ((offset <= self.step * (self.size // 2)) & (offset % self.step == 0)).all(-1)


@dataclass(frozen=True)
class Windows(Pattern):
    """The axes are cut into windows of `size`; tokens see their own window (Liu et al. 2021, Swin, section 3.2).

    Window k begins at `shift` + k `size`, as in Swin, whose shifted windows have `shift` = `size` / 2; a cyclic roll is
    not needed. On each axis the windows adapt to the grid: a window that covers the axis is as large as the axis and
    not shifted.

    Args:
        padded: whether a grid is padded with zeros to a multiple of `size`; the tokens see this padding, as in Swin and
            its successors. On one axis (text) and in causal windows there is no padding.
    """

    size: Count
    shift: Natural = 0
    padded: bool = True

    def fit(self, extent: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return the size and the shift of the windows on each axis."""
        return [(size, 0) if size <= self.size else (self.size, self.shift % self.size) for size in extent]

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        seen = None
        for axis, (size, shift) in enumerate(self.fit(extent)):
            alike = (q[..., axis] - shift) // size == (k[..., axis] - shift) // size
            seen = alike if seen is None else seen & alike
        assert seen is not None
        return seen

    def cells(self, places: Places) -> Tensor:
        cell = torch.zeros_like(places.coords[..., 0])
        for axis, ((size, shift), length) in enumerate(zip(self.fit(places.extent), places.extent, strict=True)):
            cell = cell * (length // size + 2) + (places.coords[..., axis] - shift) // size + 1
        return cell

    def filled(self, places: Places) -> Places:
        if not self.padded or len(places.extent) == 1:
            return places
        padding = _padding(self, places.extent, places.coords.device)
        return places.once(("filled", self), lambda: places.then(padding)) if len(padding) else places


@lru_cache(maxsize=64)
def _padding(windows: Windows, extent: tuple[int, ...], device: torch.device) -> Places:
    """Return the places beyond a grid that complete its last windows."""
    full = [-(-length // size) * size for (size, _), length in zip(windows.fit(extent), extent, strict=True)]
    with torch.inference_mode(False):  # a value first computed in validation is also used in training
        points = torch.cartesian_prod(*(torch.arange(size) for size in full))
        points = points[(points >= torch.tensor(extent)).any(-1)]
        return Places(points.to(device), torch.zeros(len(points), dtype=torch.bool, device=device), extent)


@dataclass(frozen=True)
class Axial(Pattern):
    """A token sees its row and its column: tokens that differ on at most one axis (Ho et al. 2019, section 3)."""

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        return (q != k).sum(-1) <= 1

    def check(self, extent: tuple[int, ...]) -> None:
        if len(extent) < 2:
            raise IncompatibleError(
                "`attn=axial` needs tokens on two axes or more; on one axis (text) it would equal `attn=full`."
            )


@dataclass(frozen=True)
class Global(Pattern):
    """Global tokens: the first `count` places of the first axis see all tokens, and all tokens see them.

    Beltagy et al. 2020, section 3.1. A special token, for instance a class token, is global in every pattern.
    """

    count: Natural

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        return (q[..., 0] < self.count) | (k[..., 0] < self.count) | (q == k).all(-1)


@dataclass(frozen=True)
class Blocks(Pattern):
    """Blocks of `size` places see themselves and (`width` - 1) / 2 blocks on each side (Zaheer et al. 2020, BigBird).

    This class, `EndBlocks` and `RandomBlocks` use the row-major index of a place.
    """

    size: Count
    width: Count = 3

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        one, other = (flatten(t, extent) // self.size for t in (q, k))
        return (one - other).abs() <= self.width // 2


@dataclass(frozen=True)
class EndBlocks(Pattern):
    """The first and the last block of `size` places see all tokens, and all tokens see them (Zaheer et al. 2020)."""

    size: Count

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        last = (prod(extent) - 1) // self.size
        one, other = (flatten(t, extent) // self.size for t in (q, k))
        return (one == 0) | (one == last) | (other == 0) | (other == last) | (one == other)


@dataclass(frozen=True)
class RandomBlocks(Pattern):
    """Each block of `size` places sees itself and `count` random blocks, drawn from `seed` (Zaheer et al. 2020)."""

    size: Count
    count: Natural = 3
    seed: Natural = 0

    def sees(self, q: Tensor, k: Tensor, extent: tuple[int, ...]) -> Tensor:
        blocks = -(-prod(extent) // self.size)
        one, other = ((flatten(t, extent) // self.size).long() for t in (q, k))
        seen = one == other
        for draw in range(self.count):
            seen = seen | (_hash(one * 1_000_003 + self.seed * 7_919 + draw) % blocks == other)
        return seen


def longformer(*, size: Count, count: Natural) -> Pattern:
    """Return a sliding window with `count` global tokens (Beltagy et al. 2020), without projections of their own."""
    return SlidingWindow(size) | Global(count)


def bigbird(*, size: Count, width: Count = 3, count: Natural = 3, seed: Natural = 0) -> Pattern:
    """Return BigBird's pattern: `width` neighbouring blocks, `count` random ones, the first and the last block."""
    return Blocks(size, width) | RandomBlocks(size, count, seed) | EndBlocks(size)


def _hash(number: Tensor) -> Tensor:
    """Return a well-mixed number in [0, 2^31) (the integer finaliser of MurmurHash3, in 64-bit arithmetic)."""
    x = number & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return (x ^ (x >> 16)) & 0x7FFFFFFF
