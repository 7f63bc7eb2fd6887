"""Kernels: how softmax(Q K^T / sqrt(E) + bias) V is computed. All take and give the same thing.

`exact` is PyTorch's fused kernel. `explicit` writes the two products and the softmax out: its weights can be looked
at, and in bfloat16 on a CPU it is much the faster to train, because the backward pass of the fused CPU kernel is slow
there. `flex` leaves out the blocks in which nobody sees anybody, where that pays: on a GPU by FlexAttention, elsewhere
by gathering the other blocks. What only approximates the softmax is in `approximations.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import dropout, pad, scaled_dot_product_attention

from tfcli.nn.view import BlockMap, BlockRows, View
from tfcli.shapes import Float

Kernel = Callable[..., Tensor]


def exact(
    q: Float[Tensor, "B H N E"],
    k: Float[Tensor, "B H M E"],
    v: Float[Tensor, "B H M F"],
    view: View | None = None,
    drop: float = 0.0,
) -> Float[Tensor, "B H N F"]:
    """Scaled dot-product attention, fused.

    Args:
        view: who sees whom; None: everything.
        drop: probability with which a weight is dropped (0 outside training).
    """
    if view is None:
        return scaled_dot_product_attention(q, k, v, dropout_p=drop)
    if view.triangular:
        return scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=drop)
    mask = view.mask
    if view.bias is not None:
        bias = view.bias.to(q)
        mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop)


def weights(
    q: Float[Tensor, "B H N E"], k: Float[Tensor, "B H M E"], view: View | None = None
) -> Float[Tensor, "B H N M"]:
    """The attention weights themselves; each row sums to one."""
    scale = q.shape[-1] ** -0.5
    mask = None if view is None else view.mask
    bias = None if view is None else view.bias
    if bias is None and mask is not None and mask.ndim == 2:
        # One operation in place of three, whose backward pass has nothing to do for what is hidden.
        hidden = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, -torch.inf)
        scores = torch.baddbmm(hidden, q.flatten(0, 1), k.flatten(0, 1).mT, alpha=scale).unflatten(0, q.shape[:2])
    else:
        scores = (q * scale) @ k.mT
        if bias is not None:
            scores = scores + bias.to(scores)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).to(q.dtype)


def explicit(
    q: Float[Tensor, "B H N E"],
    k: Float[Tensor, "B H M E"],
    v: Float[Tensor, "B H M F"],
    view: View | None = None,
    drop: float = 0.0,
) -> Float[Tensor, "B H N F"]:
    """Compute attention by two matrix products and a softmax. Arguments as for `exact`."""
    return dropout(weights(q, k, view), drop) @ v


def flex(
    q: Float[Tensor, "B H N E"],
    k: Float[Tensor, "B H M E"],
    v: Float[Tensor, "B H M F"],
    view: View | None = None,
    drop: float = 0.0,
) -> Float[Tensor, "B H N F"]:
    """Compute only the blocks of the mask that are not empty, or all of it where most blocks are not empty."""
    blocks = view.blocks if view is not None else None
    if view is None or blocks is None:
        dense = explicit if q.dtype == torch.bfloat16 and q.device.type == "cpu" else exact
        return dense(q, k, v, view, drop)
    if q.device.type == "cuda" and drop == 0 and view.valid is None:
        return fused_blocks(q, k, v, view, blocks, attend=_compiled_flex_attention())
    return gathered_blocks(q, k, v, view, blocks, drop)


def gathered_blocks(
    q: Float[Tensor, "B H N E"],
    k: Float[Tensor, "B H M E"],
    v: Float[Tensor, "B H M F"],
    view: View,
    blocks: BlockMap,
    drop: float = 0.0,
) -> Float[Tensor, "B H N F"]:
    """Each query block with the key blocks that it looks at laid side by side; linear in the number of blocks seen."""
    size = blocks.size
    q_blocks, k_blocks, v_blocks = (_cut(t, 2, size) for t in (q, k, v))  # (B, H, R, S, E)
    out = v_blocks.new_empty(*q_blocks.shape[:-1], v.shape[-1])
    for group in blocks.groups:
        ks, vs = (t[:, :, group.columns].flatten(3, 4) for t in (k_blocks, v_blocks))  # (B, H, R, C S, E)
        scores = (q_blocks[:, :, group.rows] * q.shape[-1] ** -0.5) @ ks.mT
        if view.bias is not None:
            scores = scores + _pick(view.bias, group, size).to(scores)
        mask = group.mask
        if view.valid is not None:
            valid = _cut(view.valid, 1, size)[:, group.columns].flatten(2)[:, None, :, None]
            mask = mask & (valid | _itself(group, size) if view.query is view.key else valid)
        scores = scores.masked_fill(
            ~mask, torch.finfo(scores.dtype).min
        )  # not -inf: rows of filled-up blocks are empty
        out[:, :, group.rows] = (dropout(scores.softmax(-1), drop).to(vs.dtype) @ vs).to(out.dtype)
    return out.flatten(2, 3)[:, :, : q.shape[2]]


def fused_blocks(
    q: Float[Tensor, "B H N E"],
    k: Float[Tensor, "B H M E"],
    v: Float[Tensor, "B H M F"],
    view: View,
    blocks: BlockMap,
    *,
    attend: Callable[..., Tensor],
) -> Float[Tensor, "B H N F"]:
    """Compute attention by PyTorch's FlexAttention (Dong et al. 2024), the mask evaluated pointwise in blocks."""
    from torch.nn.attention.flex_attention import BlockMask

    bias, n, m = view.bias, q.shape[2], k.shape[2]
    seen = view.seen
    assert seen is not None

    def block_mask() -> BlockMask:
        rows = sum(len(group.rows) for group in blocks.groups)
        columns = -(-m // blocks.size)
        counts = torch.zeros(rows, dtype=torch.int32, device=q.device)
        order = torch.zeros(rows, columns, dtype=torch.int32, device=q.device)
        for group in blocks.groups:
            counts[group.rows] = group.columns.shape[1]
            order[group.rows, : group.columns.shape[1]] = group.columns.int()
        return BlockMask.from_kv_blocks(
            counts[None, None],
            order[None, None],
            BLOCK_SIZE=blocks.size,
            mask_mod=lambda b, h, i, j: seen[i, j],
            seq_lengths=(n, m),
        )

    score_mod = None  # lambdas, since FlexAttention traces them
    if bias is not None and bias.ndim == 3:
        score_mod = lambda score, b, h, i, j: score + bias[h, i, j]  # noqa: E731
    elif bias is not None:
        score_mod = lambda score, b, h, i, j: score + bias[b, h, i, j]  # noqa: E731

    made = view.query.once(("block mask", view.pattern), block_mask) if view.query is view.key else block_mask()
    return attend(q, k, v, score_mod=score_mod, block_mask=made)


@cache
def _compiled_flex_attention() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _cut(t: Tensor, axis: int, size: int) -> Tensor:
    """`axis` in blocks of `size`, the last one filled up with zeros."""
    fill = [0, 0] * (t.ndim - 1 - axis) + [0, -t.shape[axis] % size]
    return pad(t, fill).unflatten(axis, (-1, size))


def _pick(bias: Float[Tensor, "*b H N M"], group: BlockRows, size: int) -> Float[Tensor, "*b H R S CS"]:
    """The bias of a group's blocks."""
    tiles = _cut(_cut(bias, bias.ndim - 1, size), bias.ndim - 2, size).transpose(-3, -2)  # (..., R, C, S, S)
    return tiles[..., group.rows[:, None], group.columns, :, :].transpose(-3, -2).flatten(-2)


def _itself(group: BlockRows, size: int) -> Tensor:
    """Return where each query of a group stands among the group's own keys, in the layout of the group's mask."""
    inside = torch.arange(size, device=group.rows.device)
    query = group.rows[:, None] * size + inside
    key = (group.columns[:, :, None] * size + inside).flatten(1)
    return query[:, :, None] == key[:, None]


KernelName = Literal["auto", "exact", "explicit", "flex"]
"""`auto` is flex where the pattern is sparse, else exact."""
KERNELS: dict[str, Kernel] = {"exact": exact, "explicit": explicit, "flex": flex}
