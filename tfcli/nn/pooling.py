"""From tokens to one vector by attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tfcli.nn.blocks import Activation, Norm, make_mlp, make_norm
from tfcli.nn.kernels import exact
from tfcli.shapes import Float


class AttentionPool(nn.Module):
    """A learned query reads the tokens, then an MLP in a residual branch (Zhai et al. 2022, section 3.2, "MAP head").

    Args:
        width: D of the tokens and of the vector.
        heads: H.
        mlp_width: hidden width of the MLP; 4 D by default.
        norm: layer or rms.
        norm_eps: epsilon of the norm before the MLP.
        activation: of the MLP.

    Raises:
        ValueError: `heads` does not divide `width`.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        mlp_width: int | None = None,
        norm: Norm = "layer",
        norm_eps: float = 1e-6,
        activation: Activation = "gelu",
    ):
        super().__init__()
        if width % heads:
            raise ValueError(f"`heads` must divide `width`, but is {heads} for a width of {width}.")
        self.heads = heads
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm = make_norm(norm, width, eps=norm_eps)
        self.mlp = make_mlp(width, hidden=mlp_width, activation=activation)
        nn.init.normal_(self.query, std=width**-0.5)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B D"]:
        q = self.q(self.query.expand(len(x), -1, -1).to(x.dtype)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = (t.transpose(1, 2) for t in self.kv(x).unflatten(-1, (2, self.heads, -1)).unbind(2))
        y = self.out(exact(q, k, v).transpose(1, 2).flatten(1))
        return y + self.mlp(self.norm(y)[:, None])[:, 0]
