"""Attention = projections x pattern x position x kernel, each a part of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from tfcli.nn.kernels import KERNELS, Kernel
from tfcli.nn.patterns import Full, Pattern
from tfcli.nn.places import Places
from tfcli.shapes import Bool, Float


@dataclass(eq=False)
class Plan:
    """What one forward pass works out once and all its layers share.

    Attributes:
        places: where the tokens stand.
        bias: the position's additive scores, or None.
        rotate: the position's turn of queries and keys, or None.
    """

    places: Places
    bias: Float[Tensor, "H N N"] | None = None
    rotate: Callable[[Tensor], Tensor] | None = None
    _masks: dict[int, Tensor | None] = field(default_factory=dict)

    def mask(self, pattern: Pattern) -> Bool[Tensor, "N N"] | None:
        """The dense mask of `pattern`, made once however many layers ask."""
        if id(pattern) not in self._masks:
            self._masks[id(pattern)] = pattern.mask(self.places, self.places)
        return self._masks[id(pattern)]


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2.2).

    Queries, keys and values come from one product: rows 0..D-1 of `qkv.weight` make the queries, then keys, then
    values.

    Args:
        width: D of the tokens.
        heads: H; the width is split evenly among them.
        pattern: who may see whom.
        kernel: a name (exact, explicit; auto is exact) or a callable with their signature.
        dropout: probability of dropping a weight while training.
        bias: whether the projections have biases.

    Raises:
        ValueError: `heads` does not divide `width`, or there is no such kernel.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        pattern: Pattern | None = None,
        kernel: str | Kernel = "auto",
        dropout: float = 0.0,
        bias: bool = True,
    ):
        super().__init__()
        if width % heads:
            raise ValueError(f"`heads` must divide `width`, but is {heads} for a width of {width}.")
        self.heads, self.dropout = heads, dropout
        self.pattern = pattern or Full()
        self.kernel = find_kernel(kernel)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: Float[Tensor, "B N D"], plan: Plan) -> Float[Tensor, "B N D"]:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)  # so that their gradients meet in one copy
        q, k, v = (t.transpose(1, 2) for t in qkv)  # (B, H, N, E) each
        if plan.rotate is not None:
            q, k = plan.rotate(q), plan.rotate(k)
        drop = self.dropout if self.training else 0.0
        y = self.kernel(q, k, v, mask=plan.mask(self.pattern), bias=plan.bias, drop=drop)
        return self.out(y.transpose(1, 2).flatten(2))


def find_kernel(kernel: str | Kernel) -> Kernel:
    """The kernel of that name; a callable is taken as it is, `auto` is `exact`.

    Raises:
        ValueError: no kernel has that name.
    """
    if callable(kernel):
        return kernel
    if kernel == "auto":
        kernel = "exact"
    if kernel not in KERNELS:
        raise ValueError(f"`attn.kernel` must be one of auto, {', '.join(KERNELS)}, but is {kernel!r}.")
    return KERNELS[kernel]


def set_kernel(net: nn.Module, kernel: str | Kernel) -> None:
    """Compute every attention of `net` by `kernel` from now on; the results stay the same up to rounding."""
    for module in net.modules():
        if isinstance(module, Attention):
            module.kernel = find_kernel(kernel)
