"""Keys and values of tokens that have been seen, so that a generator computes each token once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tfcli.errors import IncompatibleError
from tfcli.nn.patterns import Pattern
from tfcli.nn.places import Places
from tfcli.shapes import Bool, Float, Int


class Cache:
    """The keys and values of each attention, and where their tokens stand.

    An empty one is given to the first forward pass with the prompt, then again with each further token. Only patterns
    in which no earlier token sees a later one can use it, since what earlier tokens saw is not computed again.

    Attributes:
        places: of all tokens that were seen, these of the running pass included; None before the first.
        valid: False for those that were padding; None where there was none.
    """

    def __init__(self) -> None:
        self.places: Places | None = None
        self.valid: Tensor | None = None
        self._layers: dict[nn.Module, tuple[Tensor, int]] = {}  # keys and values (2, B, H, capacity, E), tokens in it

    def __len__(self) -> int:
        return 0 if self.places is None else len(self.places)

    def begin(self, places: Places, valid: Bool[Tensor, "B N"] | None) -> None:
        """Take up the places of a forward pass's tokens."""
        if self.places is None:
            self.places, self.valid = places, valid
            return
        if valid is not None or self.valid is not None:
            before = self._all(valid, len(self)) if self.valid is None else self.valid
            self.valid = torch.cat([before, self._all(self.valid, len(places)) if valid is None else valid], 1)
        self.places = self.places.then(places)

    def check(self, pattern: Pattern, new: int) -> None:
        """Refuse a pattern in which one of the tokens before the last `new` sees one of these.

        Raises:
            IncompatibleError: one does.
        """
        assert self.places is not None
        old = len(self) - new
        if old and bool(pattern.mask(self.places[:old], self.places[old:]).any()):
            raise IncompatibleError(
                f"keys and values can be kept only where no token sees what follows it, but {pattern} lets it."
            )

    def extend(
        self, layer: nn.Module, k: Float[Tensor, "B H N E"], v: Float[Tensor, "B H N E"]
    ) -> tuple[Float[Tensor, "B H M E"], Float[Tensor, "B H M E"]]:
        """Keep a layer's new keys and values; returns all of them."""
        new = torch.stack([k, v])
        held, length = self._layers.get(layer, (new, 0))
        total = length + k.shape[2]
        if total > held.shape[3]:  # twice the room, so that the copies stay few
            room = held.new_empty(*held.shape[:3], max(total, 2 * held.shape[3]), held.shape[4])
            room[:, :, :, :length] = held[:, :, :, :length]
            held = room
        held[:, :, :, length:total] = new
        self._layers[layer] = held, total
        k, v = held[:, :, :, :total].unbind()
        return k, v

    def reorder(self, rows: Int[Tensor, "B"]) -> None:
        """Let each sample go on from the past of another, as beam search does."""
        self._layers = {layer: (held[:, rows], length) for layer, (held, length) in self._layers.items()}
        if self.valid is not None:
            self.valid = self.valid[rows]

    def _all(self, like: Tensor | None, length: int) -> Tensor:
        assert like is not None
        return like.new_ones(len(like), length)
