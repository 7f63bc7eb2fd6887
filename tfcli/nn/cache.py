"""Key-value cache: a generator keeps the keys and values of earlier tokens, and so computes each token once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tfcli.errors import IncompatibleError
from tfcli.nn.patterns import Pattern
from tfcli.nn.places import Places
from tfcli.shapes import Bool, Float, Int


@dataclass
class Memory:
    """The output tokens of an encoder, which cross-attention reads.

    Attributes:
        tokens: of the width that the attention was built for.
        valid: False for padding, which no query sees; None where there is no padding. Under a full pattern each sample
            needs a token that is not padding.
        places: places of the tokens, on axes of their own; None: in line.
        key: a copy of these places, since for a view the same object means the same tokens.
    """

    tokens: Float[Tensor, "B M D"]
    valid: Bool[Tensor, "B M"] | None = None
    places: Places | None = None
    key: Places = field(init=False)

    def __post_init__(self) -> None:
        self.key = (Places.line(self.tokens.shape[1]) if self.places is None else self.places)[:]

    def of_samples(self, rows: Int[Tensor, "R"]) -> Memory:
        """Return the memory of some samples."""
        valid = None if self.valid is None else self.valid[rows]
        return Memory(self.tokens[rows], valid, None if self.places is None else self.places.of_samples(rows))


class SourceRows:
    """Index of the source sentence of each row, so that memories are copied only where a row changes its source."""

    def __init__(self) -> None:
        self._sources: Tensor | None = None

    def reorder(self, rows: Int[Tensor, "R"], count: int) -> bool:
        """Let each row continue another; return whether some row now has another source sentence.

        Args:
            rows: for each new row, the index of the row (of `count`) that it continues.
        """
        before = torch.arange(count, device=rows.device) if self._sources is None else self._sources
        self._sources = before[rows]
        return not torch.equal(before, self._sources)


class Cache:
    """Keys and values of each self-attention, the places of their tokens, and keys and values of the memory.

    Pass an empty cache with the prompt to the first forward pass, then pass it again with each further token. It works
    with causal patterns only, since the outputs of earlier tokens are not computed again.

    Args:
        memory: the memory of cross-attention; None: that of the first forward pass, if any.

    Attributes:
        places: places of all tokens so far, those of the current pass included; None before the first pass.
        valid: False for tokens that were padding; None where there was none.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self.places: Places | None = None
        self.valid: Tensor | None = None
        self.memory = memory
        self._layers: dict[nn.Module, tuple[Tensor, Tensor, int]] = {}  # keys, values (B, H, capacity, E), tokens
        self._kept: dict[nn.Module, tuple[Tensor, ...]] = {}  # keys and values of the memory
        self._sources = SourceRows()

    def __len__(self) -> int:
        return 0 if self.places is None else len(self.places)

    def begin(self, places: Places, valid: Bool[Tensor, "B N"] | None, memory: Memory | None = None) -> None:
        """Add the places of the tokens of a forward pass; the first pass may also set the memory."""
        self.memory = self.memory or memory
        if self.places is None:
            self.places, self.valid = places, valid
            return
        if valid is not None or self.valid is not None:
            before = _all_valid(valid, len(self)) if self.valid is None else self.valid
            self.valid = torch.cat([before, _all_valid(self.valid, len(places)) if valid is None else valid], 1)
        self.places = self.places.then(places)

    def check(self, pattern: Pattern, new: int) -> None:
        """Refuse a pattern in which an earlier token sees one of the last `new` tokens.

        Where samples have places of their own these are not compared: the pattern must be causal, and the caller must
        pass the tokens in order.

        Raises:
            IncompatibleError: an earlier token sees a new one.
        """
        assert self.places is not None
        old = len(self) - new
        if not old or (pattern.is_causal and (self.places.in_line or not self.places.shared)):
            return
        if not self.places.shared or bool(pattern.mask(self.places[:old], self.places[old:]).any()):
            raise IncompatibleError(
                f"keys and values can be cached only for a causal pattern, but the pattern is {pattern}."
            )

    def extend(
        self, layer: nn.Module, k: Float[Tensor, "B H N E"], v: Float[Tensor, "B H N E"]
    ) -> tuple[Float[Tensor, "B H M E"], Float[Tensor, "B H M E"]]:
        """Append a layer's new keys and values; return all of them."""
        if layer not in self._layers:
            self._layers[layer] = k, v, k.shape[2]
            return k, v
        keys, values, length = self._layers[layer]
        total = length + k.shape[2]
        if total > keys.shape[2]:  # double the capacity, so that copies are rare
            keys, values = (_enlarged(held, length, max(total, 2 * length)) for held in (keys, values))
        keys.narrow(2, length, total - length).copy_(k)
        values.narrow(2, length, total - length).copy_(v)
        self._layers[layer] = keys, values, total
        return keys.narrow(2, 0, total), values.narrow(2, 0, total)

    def keep(self, layer: nn.Module, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Return a layer's keys and values of the memory, computing them on first use."""
        if layer not in self._kept:
            self._kept[layer] = make()
        return self._kept[layer]

    def reorder(self, rows: Int[Tensor, "R"]) -> None:
        """Let each row continue the tokens of another row, as beam search needs; the number of rows may change.

        The memory is copied only if a row now has another source.
        """
        self._layers = {layer: (k[rows], v[rows], length) for layer, (k, v, length) in self._layers.items()}
        if self.places is not None:
            self.places = self.places.of_samples(rows)
        if self.valid is not None:
            self.valid = self.valid[rows]
        if self.memory is None:
            return
        if self._sources.reorder(rows, len(self.memory.tokens)):
            self.memory = self.memory.of_samples(rows)
            self._kept = {layer: tuple(t[rows] for t in kept) for layer, kept in self._kept.items()}


def _all_valid(like: Tensor | None, length: int) -> Tensor:
    assert like is not None
    return like.new_ones(len(like), length)


def _enlarged(held: Tensor, length: int, capacity: int) -> Tensor:
    """Return a copy with room for `capacity` tokens, of which the first `length` are set."""
    room = held.new_empty(*held.shape[:2], capacity, held.shape[3])
    room.narrow(2, 0, length).copy_(held.narrow(2, 0, length))
    return room
