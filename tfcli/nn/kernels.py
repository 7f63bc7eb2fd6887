"""Kernels: how softmax(Q K^T / sqrt(E) + bias) V is computed. All take and give the same thing.

`exact` is PyTorch's fused kernel. `explicit` writes the two products and the softmax out: its weights can be looked
at, and in bfloat16 on a CPU it is much the faster to train, because the backward pass of the fused CPU kernel is slow
there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import dropout, scaled_dot_product_attention

from tfcli.shapes import Bool, Float

Kernel = Callable[..., Tensor]


def exact(
    q: Float[Tensor, "B H N E"],
    k: Float[Tensor, "B H M E"],
    v: Float[Tensor, "B H M E"],
    *,
    mask: Bool[Tensor, "N M"] | None = None,
    bias: Float[Tensor, "H N M"] | None = None,
    drop: float = 0.0,
) -> Float[Tensor, "B H N E"]:
    """Scaled dot-product attention, fused.

    Args:
        mask: True where a query may look.
        bias: added to the scores.
        drop: probability with which a weight is dropped (0 outside training).
    """
    if bias is not None:
        mask = bias.to(q) if mask is None else bias.to(q).masked_fill(~mask, -torch.inf)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop)


def weights(
    q: Float[Tensor, "B H N E"],
    k: Float[Tensor, "B H M E"],
    *,
    mask: Bool[Tensor, "N M"] | None = None,
    bias: Float[Tensor, "H N M"] | None = None,
) -> Float[Tensor, "B H N M"]:
    """The attention weights themselves; each row sums to one."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    if bias is not None:
        scores = scores + bias.to(scores)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).to(q.dtype)


def explicit(
    q: Float[Tensor, "B H N E"],
    k: Float[Tensor, "B H M E"],
    v: Float[Tensor, "B H M E"],
    *,
    mask: Bool[Tensor, "N M"] | None = None,
    bias: Float[Tensor, "H N M"] | None = None,
    drop: float = 0.0,
) -> Float[Tensor, "B H N E"]:
    """The same by two matrix products and a softmax. Arguments as for `exact`."""
    return dropout(weights(q, k, mask=mask, bias=bias), drop) @ v


KERNELS: dict[str, Kernel] = {"exact": exact, "explicit": explicit}
