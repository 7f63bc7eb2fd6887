"""The transformer block and its parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from tfcli.bounds import NotNegative
from tfcli.nn.attention import Attention, Plan
from tfcli.nn.cross import CrossAttention
from tfcli.shapes import Float


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x): the sigmoid approximation of GELU (Hendrycks and Gimpel 2016, section 2)."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return x * torch.sigmoid(1.702 * x)


Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "swiglu"]
"""Activation of an MLP; `swiglu` makes a gated MLP."""
Norm = Literal["layer", "rms"]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}
NORMS: dict[str, Callable[..., nn.Module]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}


def make_norm(kind: Norm, width: int, *, eps: float) -> nn.Module:
    """Build a norm over the channels of each token: layer (Ba et al. 2016) or rms (Zhang and Sennrich 2019).

    Raises:
        ValueError: there is no such norm.
    """
    if kind not in NORMS:
        raise ValueError(f"`norm` must be one of {', '.join(NORMS)}, but is {kind!r}.")
    return NORMS[kind](width, eps=eps)


def make_mlp(
    width: int,
    *,
    hidden: int | None = None,
    activation: Activation = "gelu",
    dropout: float = 0.0,
    inner_dropout: float | None = None,
    bias: bool | None = None,
) -> nn.Module:
    """Build a plain MLP of hidden width 4 D, or for `swiglu` a gated one of 8/3 D, which has as many parameters.

    With `bias` None a plain MLP has biases and a gated one has none.
    """
    drops: dict[str, Any] = {"dropout": dropout, "inner_dropout": inner_dropout}
    if activation == "swiglu":
        return GatedMlp(width, hidden=hidden or 8 * -(-width // 3), bias=bool(bias), **drops)
    return Mlp(width, hidden=hidden or 4 * width, activation=activation, bias=bias is not False, **drops)


class Dropout(nn.Dropout):
    """Dropout that takes less than half as long as PyTorch's on a CPU: one 64-bit random number decides four values.

    On a CPU `p` is rounded to a multiple of 2^-16; on other devices this is PyTorch's dropout.
    """

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.training or self.p == 1 or x.device.type != "cpu":
            return super().forward(x)
        numbers = torch.empty(-(-x.numel() // 4), dtype=torch.long).random_(-(2**63), None)
        kept = numbers.view(torch.int16)[: x.numel()].view(x.shape) >= round(self.p * 2**16) - 2**15
        return x * kept.to(x.dtype).div_(1 - self.p)


def make_dropout(p: float) -> Dropout | None:
    """Return a dropout layer with probability `p`; None where `p` is 0."""
    return Dropout(p) if p else None


def through(module: nn.Module | None, x: Tensor) -> Tensor:
    """Apply an optional part; return `x` where it is None (calling an idle module costs time in small models)."""
    return x if module is None else module(x)


class Mlp(nn.Module):
    """Two linear maps with an activation between them, applied to each token separately.

    Args:
        width: D of input and output.
        hidden: width between the two maps.
        activation: gelu (the exact, erf form), gelu_tanh, quick_gelu, relu or silu (swish).
        dropout: probability of dropout after the second map.
        inner_dropout: probability of dropout after the activation; None: equal to `dropout`.
        bias: whether the maps have biases.
    """

    def __init__(
        self,
        width: int,
        *,
        hidden: int,
        activation: Activation = "gelu",
        dropout: float = 0.0,
        inner_dropout: float | None = None,
        bias: bool = True,
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"`activation` must be one of {', '.join(ACTIVATIONS)}, swiglu, but is {activation!r}.")
        self.fc1 = nn.Linear(width, hidden, bias=bias)
        self.act = ACTIVATIONS[activation]()
        self.fc2 = nn.Linear(hidden, width, bias=bias)
        self.drop = make_dropout(dropout)
        self.inner_drop = make_dropout(dropout if inner_dropout is None else inner_dropout)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        return through(self.drop, self.fc2(through(self.inner_drop, self.act(self.fc1(x)))))


class GatedMlp(nn.Module):
    """SwiGLU: one linear map, through SiLU, gates another (Shazeer 2020, equation 6).

    Args:
        width: D of input and output.
        hidden: width between the maps.
        dropout: probability of dropout after the last map.
        inner_dropout: probability of dropout after the gate; None: equal to `dropout`.
        bias: whether the maps have biases, as in DINOv2; the paper has none.
    """

    def __init__(
        self, width: int, *, hidden: int, dropout: float = 0.0, inner_dropout: float | None = None, bias: bool = False
    ):
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * hidden, bias=bias)  # the gate's rows, then the values'
        self.fc2 = nn.Linear(hidden, width, bias=bias)
        self.drop = make_dropout(dropout)
        self.inner_drop = make_dropout(dropout if inner_dropout is None else inner_dropout)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        gate, value = self.fc1(x).chunk(2, -1)
        return through(self.drop, self.fc2(through(self.inner_drop, silu(gate) * value)))


class LayerScale(nn.Module):
    """A learned factor for each channel of a branch, initially near zero (Touvron et al. 2021, CaiT, section 2).

    Args:
        width: D, the width of the tokens.
        start: initial value of the factors.
    """

    def __init__(self, width: int, *, start: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        return x * self.gamma


class DropPath(nn.Module):
    """Stochastic depth: during training, drop a sample's whole branch and scale up the others (Huang et al. 2016).

    Args:
        drop_fraction: probability of dropping, in [0, 1).
    """

    def __init__(self, drop_fraction: float):
        super().__init__()
        if not 0 <= drop_fraction < 1:
            raise ValueError(f"`drop_path` must be at least 0 and less than 1, but is {drop_fraction}.")
        self.drop_fraction = drop_fraction

    def forward(self, x: Float[Tensor, "B *rest"]) -> Float[Tensor, "B *rest"]:
        if not self.training or self.drop_fraction == 0:
            return x
        keep = 1 - self.drop_fraction
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) < keep
        return x * kept / keep


class Block(nn.Module):
    """Self-attention, cross-attention and an MLP, each in a residual branch; either attention may be missing.

    Pre-norm: x + part(norm(x)) for each part in turn. Post-norm: norm(x + part(x)).

    Args:
        attention: self-attention of the same width; None: there is no such branch.
        mlp: MLP of the same width; in a block whose attention is gated, followed by a `Gate` of its own.
        cross: cross-attention of the same width; None: there is no such branch.
        width: D, the width of the tokens.
        norm: layer or rms.
        norm_eps: epsilon of the norms.
        post_norm: normalise after the residual sum, as the original Transformer and BERT do.
        dropout: probability of dropout on the attention's output.
        drop_path: probability of dropping a branch of a sample during training.
        layer_scale: initial value of a learned factor on each channel of a branch; None: there is no factor.
    """

    def __init__(
        self,
        attention: Attention | None,
        mlp: nn.Module,
        *,
        width: int,
        cross: CrossAttention | None = None,
        norm: Norm = "layer",
        norm_eps: float = 1e-6,
        post_norm: bool = False,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        layer_scale: NotNegative | None = None,
    ):
        super().__init__()
        self.post_norm = post_norm
        self.norm1 = None if attention is None else make_norm(norm, width, eps=norm_eps)
        self.attention = attention
        self.drop = make_dropout(dropout)
        self.norm2 = make_norm(norm, width, eps=norm_eps)
        self.mlp = mlp
        self.path = DropPath(drop_path) if drop_path else None
        scale = partial(LayerScale, width, start=layer_scale) if layer_scale is not None else lambda: None
        self.scale1 = None if attention is None else scale()
        self.scale2 = scale()
        self.cross = cross
        self.cross_norm = None if cross is None else make_norm(norm, width, eps=norm_eps)
        self.cross_scale = None if cross is None else scale()

    def forward(self, x: Float[Tensor, "B N D"], plan: Plan) -> Float[Tensor, "B N D"]:
        attention, cross = self.attention, self.cross
        if attention is not None and self.norm1 is not None:
            x = self._branch(x, self.norm1, self.scale1, lambda h: through(self.drop, attention(h, plan)))
        if cross is not None and self.cross_norm is not None:
            x = self._branch(x, self.cross_norm, self.cross_scale, lambda h: through(self.drop, cross(h, plan)))
        return self._branch(x, self.norm2, self.scale2, self.mlp)

    def _branch(self, x: Tensor, norm: nn.Module, scale: LayerScale | None, part: Callable[[Tensor], Tensor]) -> Tensor:
        if self.post_norm:
            return norm(x + through(self.path, through(scale, part(x))))
        return x + through(self.path, through(scale, part(norm(x))))
