"""Attention pooling: reduce the tokens of a sample to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tfcli.nn.blocks import Activation, Norm, make_mlp, make_norm
from tfcli.nn.kernels import exact
from tfcli.shapes import Float


class AttentionPool(nn.Module):
    """Attention of a learned query to the tokens, then an MLP in a residual branch (Zhai et al. 2022, "MAP head").

    Args:
        width: D of the tokens and of the vector.
        heads: H, the number of heads.
        mlp_width: hidden width of the MLP; 4 D by default.
        norm: layer or rms.
        norm_eps: epsilon of the norm before the MLP.
        activation: activation of the MLP.

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


class MeanQueryPool(nn.Module):
    """Attention of the mean of the tokens to them and itself (Radford et al. 2021, CLIP, section 2.4).

    Args:
        width: D of the tokens.
        heads: H, the number of heads.
        cells: number of tokens, the cells of a map.
        out_width: width of the vector.

    Raises:
        ValueError: `heads` does not divide `width`.
    """

    def __init__(self, width: int, *, heads: int, cells: int, out_width: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"`model.image.heads` must divide the last map's width, {width}, but is {heads}.")
        self.heads, self.undecayed = heads, ("positions",)
        self.positions = nn.Parameter(torch.empty(cells + 1, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, out_width)
        for tensor in (self.positions, *(part.weight for part in (self.q_proj, self.k_proj, self.v_proj, self.out))):
            nn.init.normal_(tensor, std=width**-0.5)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B O"]:
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positions
        parts = (self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # (B, H, 1 or M, E)
        return self.out(exact(q, k, v).flatten(1))
