"""Keys and values of tokens that have been seen, so that a generator computes each token once."""

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
    """Tokens of another sequence that cross-attention reads, as an encoder left them.

    Attributes:
        tokens: of any width that the attention was built for.
        valid: False for padding, which nobody sees. None where there is no padding. Under a full pattern each sample
            needs a token that is not padding.
        places: where its tokens stand, on axes of their own; None: in line.
        key: the same places as an object of their own, since to a view the same object means the same tokens.
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


class Owners:
    """Index of the source sentence of each row; memories move only where a row replaces one of another source."""

    def __init__(self) -> None:
        self._of: Tensor | None = None

    def move(self, rows: Int[Tensor, "R"], count: int) -> bool:
        """Each row goes on from another; says whether the memories have to move.

        Args:
            rows: from which of `count` rows each goes on.
        """
        before = torch.arange(count, device=rows.device) if self._of is None else self._of
        self._of = before[rows]
        return not torch.equal(before, self._of)


class Cache:
    """The keys and values of each attention, where their tokens stand, and those of the memory.

    An empty one is given to the first forward pass with the prompt, then again with each further token. Only patterns
    in which no earlier token sees a later one can use it, since what earlier tokens saw is not computed again.

    Args:
        memory: what cross-attention looks at; else that of the first forward pass, if any.

    Attributes:
        places: of all tokens that were seen, these of the running pass included; None before the first.
        valid: False for those that were padding; None where there was none.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self.places: Places | None = None
        self.valid: Tensor | None = None
        self.memory = memory
        self._layers: dict[nn.Module, tuple[Tensor, Tensor, int]] = {}  # keys, values (B, H, capacity, E), tokens
        self._kept: dict[nn.Module, tuple[Tensor, ...]] = {}  # keys and values of the memory
        self._owners = Owners()

    def __len__(self) -> int:
        return 0 if self.places is None else len(self.places)

    def begin(self, places: Places, valid: Bool[Tensor, "B N"] | None, memory: Memory | None = None) -> None:
        """Take up the places of a forward pass's tokens, and the memory of the first."""
        self.memory = self.memory or memory
        if self.places is None:
            self.places, self.valid = places, valid
            return
        if valid is not None or self.valid is not None:
            before = self._all(valid, len(self)) if self.valid is None else self.valid
            self.valid = torch.cat([before, self._all(self.valid, len(places)) if valid is None else valid], 1)
        self.places = self.places.then(places)

    def check(self, pattern: Pattern, new: int) -> None:
        """Refuse a pattern in which one of the tokens before the last `new` sees one of these.

        Where samples have places of their own these are not looked at: the pattern has to be a causal one, and who
        passes the tokens sees to it that none stands before an earlier one.

        Raises:
            IncompatibleError: one does.
        """
        assert self.places is not None
        old = len(self) - new
        if not old or (pattern.looks_back and (self.places.in_line or not self.places.shared)):
            return
        if not self.places.shared or bool(pattern.mask(self.places[:old], self.places[old:]).any()):
            raise IncompatibleError(
                f"keys and values can be cached only for a causal pattern, but the pattern is {pattern}."
            )

    def extend(
        self, layer: nn.Module, k: Float[Tensor, "B H N E"], v: Float[Tensor, "B H N E"]
    ) -> tuple[Float[Tensor, "B H M E"], Float[Tensor, "B H M E"]]:
        """Keep a layer's new keys and values; returns all of them."""
        if layer not in self._layers:
            self._layers[layer] = k, v, k.shape[2]
            return k, v
        keys, values, length = self._layers[layer]
        total = length + k.shape[2]
        if total > keys.shape[2]:  # twice the room, so that the copies stay few
            keys, values = (_roomier(held, length, max(total, 2 * length)) for held in (keys, values))
        keys.narrow(2, length, total - length).copy_(k)
        values.narrow(2, length, total - length).copy_(v)
        self._layers[layer] = keys, values, total
        return keys.narrow(2, 0, total), values.narrow(2, 0, total)

    def keep(self, layer: nn.Module, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """A layer's keys and values of the memory, made the first time."""
        if layer not in self._kept:
            self._kept[layer] = make()
        return self._kept[layer]

    def reorder(self, rows: Int[Tensor, "R"]) -> None:
        """Let each sample go on from the past of another, as beam search does; there may be more or fewer of them.

        The memory moves along only if a sample takes the place of one with another memory.
        """
        self._layers = {layer: (k[rows], v[rows], length) for layer, (k, v, length) in self._layers.items()}
        if self.places is not None:
            self.places = self.places.of_samples(rows)
        if self.valid is not None:
            self.valid = self.valid[rows]
        if self.memory is None:
            return
        if self._owners.move(rows, len(self.memory.tokens)):
            self.memory = self.memory.of_samples(rows)
            self._kept = {layer: tuple(t[rows] for t in kept) for layer, kept in self._kept.items()}

    def _all(self, like: Tensor | None, length: int) -> Tensor:
        assert like is not None
        return like.new_ones(len(like), length)


def _roomier(held: Tensor, length: int, capacity: int) -> Tensor:
    """Return the same values in a larger tensor whose rest is unused."""
    room = held.new_empty(*held.shape[:2], capacity, held.shape[3])
    room.narrow(2, 0, length).copy_(held.narrow(2, 0, length))
    return room
