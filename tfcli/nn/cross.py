"""Cross-attention to a memory, which may have its own width, places and padding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tfcli.bounds import Count, Rate
from tfcli.errors import IncompatibleError
from tfcli.nn.approximations import Approximation
from tfcli.nn.attention import MultiHead, Plan
from tfcli.nn.cache import Memory
from tfcli.nn.kernels import KernelName
from tfcli.nn.patterns import Full, Pattern
from tfcli.nn.positions import Position
from tfcli.nn.view import View
from tfcli.shapes import Bool, Float


@dataclass
class MemoryView(View):
    """The view of a memory; a token that may see none of it sees all of it, and its output is set to zero."""

    @property
    def mask(self) -> Bool[Tensor, "*b N M"] | None:
        """Return the mask of the pattern and of padding, with at least one key in each row."""
        mask, sees_any = super().mask, self.sees_any
        if mask is None or sees_any is None:
            return mask
        key = "without empty rows", self.pattern
        if key not in self.memo:
            self.memo[key] = mask | ~sees_any
        return self.memo[key]

    @property
    def sees_any(self) -> Bool[Tensor, "*b N 1"] | None:
        """Whether a token sees any key of the memory; None where all do, since the pattern is full."""
        if isinstance(self.pattern, Full):
            return None
        key = "sees any", self.pattern
        if key not in self.memo:
            mask = super().mask
            self.memo[key] = None if mask is None else mask.any(-1, keepdim=True)
        return self.memo[key]


class Gate(nn.Module):
    """A learned factor tanh(a) on a branch, initially zero (Alayrac et al. 2022, Flamingo, section 2.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        return x * self.alpha.tanh()


class CrossAttention(MultiHead):
    """Multi-head attention of tokens to a memory (Vaswani et al. 2017, section 3.2.3).

    Where the memory and the heads have the tokens' width, queries, keys and values come from the rows of one matrix
    `qkv`, as in `Attention`; otherwise queries come from `q`, keys and then values from `kv`. The plan's cache keeps
    keys and values, since a memory does not change. The output of a token that sees no key is zero.

    The tokens may be a subset of the memory's own, as in a layer that shrinks a map (LeViT), or have no place, as
    latents (Perceiver).

    Args:
        width: D of the tokens.
        heads: H, the number of heads.
        memory_width: width of the memory's tokens; D by default.
        head_width: E of queries and keys; D / H by default.
        value_width: width of the values of a head; `head_width` by default.
        pattern: which tokens of the memory a token may see, from the coordinates of both.
        pos: position that rotates queries and keys or adds to the scores; None: the memory has no order.
        kernel: how the softmax is computed, or a factory of an approximation (see `MultiHead`).
        dropout: probability of dropping an attention weight during training.
        bias: whether the linear maps have biases.
        projection: factory of the maps to queries and to keys and values, called as `projection(width_in, width_out)`,
            for instance of a linear map followed by a norm (LeViT); None: linear maps.
        memory_norm: norm of the memory's tokens (Perceiver; the block norms the queries); None: there is none.
        out: map from the values of all heads to the output; None: a linear map to D.
        gated: whether a `Gate` follows, so that the output is zero at first (Flamingo).

    Raises:
        ValueError: `heads` does not divide `width`, and `head_width` is not given; or there is no such kernel.
        IncompatibleError: an approximation does not support cross-attention, or this pattern, position or dropout.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: Count,
        memory_width: Count | None = None,
        head_width: Count | None = None,
        value_width: Count | None = None,
        pattern: Pattern | None = None,
        pos: Position | None = None,
        kernel: KernelName | Callable[..., Approximation] = "auto",
        dropout: Rate = 0.0,
        bias: bool = True,
        projection: Callable[[int, int], nn.Module] | None = None,
        memory_norm: nn.Module | None = None,
        out: nn.Module | None = None,
        gated: bool = False,
    ):
        if head_width is None and width % heads:
            raise ValueError(f"`heads` must divide `width`, but is {heads} for a width of {width}.")
        head_width = head_width or width // heads
        memory_width, value_width = memory_width or width, value_width or head_width
        sizes: dict[str, Any] = {"heads": heads, "head_width": head_width}
        super().__init__(pattern=pattern or Full(), kernel=kernel, dropout=dropout, **sizes)
        if pos is not None and pos.applies_to == "tokens":
            raise IncompatibleError(
                f"cross-attention supports positions that act on queries or scores, but {type(pos).__name__} adds to "
                "the tokens: add it to the memory before."
            )
        self.pos, self.widths = pos, (heads * head_width, heads * value_width)
        self._check_approximation()
        self.memory_norm = memory_norm
        same = {width, memory_width, *self.widths} == {width}
        self.qkv = nn.Linear(width, 3 * width, bias=bias) if same and projection is None else None
        if self.qkv is None:
            make = projection or partial(nn.Linear, bias=bias)
            self.q = make(width, self.widths[0])
            self.kv = make(memory_width, sum(self.widths))
        self.out = nn.Linear(self.widths[1], width, bias=bias) if out is None else out
        self.gate = Gate() if gated else None

    def _check_approximation(self) -> None:
        approximation = self.approximation
        if approximation is None:
            return
        if not isinstance(self.pattern, Full):
            raise IncompatibleError(
                f"{approximation.name} attention to a memory takes a full pattern, but was given {self.pattern}."
            )
        if self.pos is not None and self.pos.applies_to in approximation.refuses:
            raise IncompatibleError(
                f"{approximation.name} attention cannot take positions that act on {self.pos.applies_to}, as "
                f"{type(self.pos).__name__} do."
            )

    def forward(self, x: Float[Tensor, "B N D"], plan: Plan) -> Float[Tensor, "B N O"]:
        """Return the attention's output for each token, over the plan's memory."""
        memory = plan.memory
        assert memory is not None, "cross-attention needs a memory"
        q = self._queries(x, plan)
        k, v = self._read(memory) if plan.cache is None else plan.cache.keep(self, lambda: self._read(memory))
        view = self._view(q, plan, memory)
        y = self.out(self.average(q, k, v, view))
        if (sees_any := view.sees_any) is not None:
            y = y.masked_fill(~(sees_any if sees_any.ndim == 2 else sees_any[:, 0]), 0)
        return y if self.gate is None else self.gate(y)

    def _queries(self, x: Tensor, plan: Plan) -> Tensor:
        (q,) = self.cut(self.q(x) if self.qkv is None else self._rows(x, 0, x.shape[-1]), 1)
        return q if self.pos is None else self.pos.rotate(q, plan.query)

    def _read(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Compute the memory's keys and values."""
        tokens = memory.tokens if self.memory_norm is None else self.memory_norm(memory.tokens)
        if self.qkv is not None:
            k, v = self.cut(self._rows(tokens, tokens.shape[-1], None), 2)
        else:
            (k,), (v,) = (self.cut(part, 1) for part in self.kv(tokens).split(self.widths, -1))
        return k if self.pos is None else self.pos.rotate(k, memory.key.to(k.device)), v

    def _rows(self, t: Tensor, first: int, last: int | None) -> Tensor:
        """Apply the rows `first` to `last` of the packed matrix."""
        assert self.qkv is not None
        bias = self.qkv.bias
        return linear(t, self.qkv.weight[first:last], None if bias is None else bias[first:last])

    def _view(self, q: Tensor, plan: Plan, memory: Memory) -> MemoryView:
        key = memory.key
        if self.pos is not None or not isinstance(self.pattern, Full):
            key = key.to(q.device)
        return MemoryView(self.pattern, plan.query, key, valid=memory.valid, memo=plan.memory_memo, pos=self.pos)
