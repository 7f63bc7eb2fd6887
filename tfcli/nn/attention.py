"""Multi-head attention, assembled from four independent parts: projections, pattern, position and kernel."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tfcli.bounds import Positive, Rate
from tfcli.errors import IncompatibleError
from tfcli.nn.approximations import Approximation
from tfcli.nn.cache import Cache, Memory
from tfcli.nn.kernels import KERNELS, Kernel, KernelName
from tfcli.nn.patterns import Causal, Full, Pattern
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
from tfcli.nn.view import View
from tfcli.shapes import Bool, Float, Int


@dataclass(eq=False)
class Plan:
    """Places, padding, masks and biases that a forward pass computes once and all its layers share.

    Attributes:
        query: places of the tokens.
        pos: the position of a layer, or None.
        valid: False for tokens that are padding, or None where there is none.
        cache: keys and values of earlier tokens, or None.
        memory: the memory of cross-attention, or None.
        memory_memo: cache of the masks over the memory.
        rows: places in a batch (B, N), flattened, of the T tokens that are no padding, where the stack keeps these
            alone, as (1, T, D); None where it keeps all tokens.
        key: places of the keys: of the cached tokens, then of these.
    """

    query: Places
    pos: Position | None = None
    valid: Bool[Tensor, "B M"] | None = None
    cache: Cache | None = None
    memory: Memory | None = None
    memory_memo: dict[Hashable, Any] = field(default_factory=dict)
    rows: Int[Tensor, "T"] | None = None
    key: Places = field(init=False)
    _memo: dict[Hashable, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.key = self.cache.places if self.cache is not None and self.cache.places is not None else self.query

    def at(self, pos: Position) -> Plan:
        """Return this plan with another position."""
        return self if pos is self.pos else replace(self, pos=pos)

    def rotate(self, t: Float[Tensor, "B H N E"]) -> Float[Tensor, "B H N E"]:
        """Return queries or keys, rotated by the position if there is one."""
        return t if self.pos is None else self.pos.rotate(t, self.query)

    def unpacked(self, t: Float[Tensor, "A T D"]) -> Float[Tensor, "B N D"]:
        """Return the tokens of a batch, with zeros for padding where the stack has only the other tokens."""
        if self.rows is None:
            return t
        assert self.valid is not None
        whole = t.new_zeros(self.valid.numel(), t.shape[2])
        return whole.index_copy(0, self.rows, t[0]).view(*self.valid.shape, -1)

    def packed(self, t: Float[Tensor, "B N D"]) -> Float[Tensor, "A T D"]:
        """Return the tokens that the stack keeps: the inverse of `unpacked`."""
        return t if self.rows is None else t.flatten(0, 1)[self.rows][None]

    def view(self, pattern: Pattern, *, filled: bool = False) -> View:
        """Return the view that a kernel needs: which keys each query sees, and the position that adds to the scores.

        Args:
            filled: whether the pattern's own padding (see `Pattern.filled`) follows the keys.
        """
        key, valid = self.key, self.valid
        if filled:
            key = pattern.filled(key)
            valid = None if valid is None else pad(valid, (0, len(key) - len(self.key)), value=True)
        return View(pattern, self.query, key, valid=valid, memo=self._memo, pos=self.pos, filled=filled)

    def fill(self, pattern: Pattern, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return keys and values, followed by those of the pattern's own padding, whose tokens are zeros.

        Args:
            bias: bias of the projection, (3 D), which is its output for a token of zeros; None: it has no bias.
        """
        more = pattern.filled(self.query)[len(self.query) :]
        shape = *k.shape[:2], len(more), k.shape[3]
        if bias is None:
            return tuple(torch.cat([t, t.new_zeros(shape)], 2) for t in (k, v))  # type: ignore[return-value]
        k_fill, v_fill = (part.to(k).unflatten(0, (k.shape[1], 1, -1)).expand(shape) for part in bias.chunk(3)[1:])
        k_fill = k_fill if self.pos is None else self.pos.rotate(k_fill, more)
        return torch.cat([k, k_fill], 2), torch.cat([v, v_fill], 2)


class MultiHead(nn.Module):
    """Base class of self-attention and cross-attention: heads that average values by a kernel.

    Args:
        heads: H, the number of heads.
        head_width: E of queries and keys.
        pattern: which keys a query may see.
        kernel: how the softmax is computed: exact, explicit, flex, partition, or auto (partition where the pattern has
            windows, flex where it is otherwise sparse, else exact). Or a factory of an approximation, called as
            `kernel(heads=..., head_width=..., extent=..., special=...)`.
        dropout: probability of dropping an attention weight during training.
        extent: size of each axis of the tokens' coordinates.
        special: number of special tokens.

    Attributes:
        kernel: function that computes the softmax; None where `approximation` does, except inside `capture`.

    Raises:
        ValueError: there is no such kernel.
        IncompatibleError: kernel, pattern, axes or dropout do not fit together.
    """

    def __init__(
        self,
        *,
        heads: int,
        head_width: int,
        pattern: Pattern,
        kernel: KernelName | Callable[..., Approximation],
        dropout: float,
        extent: tuple[int, ...] = (),
        special: int = 0,
    ):
        super().__init__()
        self.heads, self.dropout, self.pattern = heads, dropout, pattern
        self.kernel: Kernel | None = None
        self.approximation: Approximation | None = None
        if isinstance(kernel, str):
            best = best_kernel(self.pattern)
            if kernel == "partition" != best:
                raise IncompatibleError(
                    f"`attn.kernel=partition` needs a pattern of windows, but the pattern is {self.pattern}: "
                    "take `attn=windows`, or another kernel."
                )
            self.kernel = find_kernel(best if kernel == "auto" else kernel)
        else:
            self.approximation = kernel(heads=heads, head_width=head_width, extent=extent, special=special)
            self.approximation.check(self.pattern, extent, special)
            if dropout:
                raise IncompatibleError(
                    f"{self.approximation.name} attention has no weights to drop: `attention_dropout` must be 0, "
                    f"but is {dropout}."
                )

    def average(
        self, q: Float[Tensor, "B H N E"], k: Float[Tensor, "B H M E"], v: Float[Tensor, "B H M F"], view: View
    ) -> Float[Tensor, "B N HF"]:
        """Return the average of the values that each query sees, with the heads concatenated."""
        kernel = self.kernel or self.approximation
        assert kernel is not None
        return kernel(q, k, v, view, self.dropout if self.training else 0.0).transpose(1, 2).flatten(2)

    def cut(self, t: Float[Tensor, "B N PHE"], parts: int) -> tuple[Float[Tensor, "B H N E"], ...]:
        """Split a projection into `parts` tensors of (B, H, N, E); their gradients are merged by one copy."""
        return tuple(part.transpose(1, 2) for part in t.view(*t.shape[:2], parts, self.heads, -1).unbind(2))


class Attention(MultiHead):
    """Multi-head attention of tokens to one another (Vaswani et al. 2017, section 3.2.2).

    Queries, keys and values come from one product: rows 0..D-1 of `qkv.weight` make the queries, then keys, then
    values. A kernel that shares queries and keys (Reformer) has no rows for keys.

    Args:
        width: D of the tokens.
        heads: H; the width is split evenly among them.
        pattern: which keys a query may see.
        causal: whether, in addition, no token sees later tokens.
        kernel: how the softmax is computed, or a factory of an approximation (see `MultiHead`).
        dropout: probability of dropping an attention weight during training.
        bias: whether the projections have biases.
        scale: factor on the products of queries and keys; None: 1 / sqrt(E). T5 uses 1.
        extent: size of each axis of the tokens' coordinates.
        special: number of special tokens.

    Raises:
        ValueError: `heads` does not divide `width`, or there is no such kernel.
        IncompatibleError: kernel, pattern, axes or dropout do not fit together.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        pattern: Pattern | None = None,
        causal: bool = False,
        kernel: KernelName | Callable[..., Approximation] = "auto",
        dropout: Rate = 0.0,
        bias: bool = True,
        scale: Positive | None = None,
        extent: tuple[int, ...] = (),
        special: int = 0,
    ):
        if width % heads:
            raise ValueError(f"`heads` must divide `width`, but is {heads} for a width of {width}.")
        pattern = (pattern or Full()) & (Causal() if causal else Full())
        if extent:
            pattern.check(extent)
        super().__init__(
            heads=heads,
            head_width=width // heads,
            pattern=pattern,
            kernel=kernel,
            dropout=dropout,
            extent=extent,
            special=special,
        )
        self.scale = None if scale is None else scale * (width // heads) ** 0.5  # every kernel multiplies by E^-1/2
        self.parts = 2 if self.approximation is not None and self.approximation.shared else 3
        self.qkv = nn.Linear(width, self.parts * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: Float[Tensor, "B N D"], plan: Plan) -> Float[Tensor, "B N D"]:
        """Return the attention's output for each token."""
        q, *rest, v = self.cut(plan.unpacked(self.qkv(x)), self.parts)
        q = plan.rotate(q)
        k = plan.rotate(rest[0]) if rest else q
        if self.scale is not None:
            q = q * self.scale
        if plan.cache is not None:
            k, v = plan.cache.extend(self, k, v)
        filled = plan.cache is None and self.pattern.filled(plan.query) is not plan.query
        if filled:
            k, v = plan.fill(self.pattern, k, v, self.qkv.bias)
        return self.out(plan.packed(self.average(q, k, v, plan.view(self.pattern, filled=filled))))


AttentionFactory = Callable[..., Attention] | Sequence[Callable[..., Attention]]
"""Factory of the attention of each layer of a stack; the layers use several factories in turn."""


def cycle(
    *,
    patterns: Mapping[str, Pattern],
    causal: bool = False,
    kernel: KernelName = "auto",
    scale: Positive | None = None,
) -> Sequence[Callable[..., Attention]]:
    """Return factories of attention for layers whose patterns alternate: the first layer uses the first pattern.

    Args:
        patterns: by name, in order.
        causal, kernel, scale: as for `Attention`; kernel=partition applies to the layers that have windows.
    """
    if kernel == "partition" and any(best_kernel(pattern) == kernel for pattern in patterns.values()):
        kernel = "auto"
    return [partial(Attention, pattern=p, causal=causal, kernel=kernel, scale=scale) for p in patterns.values()]


def best_kernel(pattern: Pattern) -> KernelName:
    """Return the kernel that computes the fewest hidden scores for this pattern."""
    if isinstance(pattern, Full | Causal):
        return "exact"
    return "partition" if pattern.cells(Places.grid(1)) is not None else "flex"


def find_kernel(kernel: str) -> Kernel:
    """Return the kernel of that name; `auto` is `exact`.

    Raises:
        ValueError: no kernel has that name.
    """
    if kernel == "auto":
        kernel = "exact"
    if kernel not in KERNELS:
        raise ValueError(f"`attn.kernel` must be one of auto, {', '.join(KERNELS)}, but is {kernel!r}.")
    return KERNELS[kernel]


def set_kernel(net: nn.Module, kernel: str) -> None:
    """Set the kernel of every attention in `net`, except approximations; results change by rounding only."""
    for module in net.modules():
        if isinstance(module, MultiHead) and module.approximation is None:
            module.kernel = find_kernel(kernel)
