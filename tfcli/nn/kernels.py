"""Exact kernels: ways to compute softmax(Q K^T / sqrt(E) + bias) V, with the same arguments and the same result.

`exact` is PyTorch's fused kernel. `explicit` computes two matrix products and a softmax: its weights are visible, and
in bfloat16 on a CPU it trains much faster, because the backward pass of the fused CPU kernel is slow there. `flex`
skips the blocks of the mask that are empty, where that is faster: on a GPU by FlexAttention, elsewhere by gathering the
other blocks. `partition` computes the scores inside the cells of the pattern alone (windows); it makes no tensor of
queries times keys. `approximations.py` has the kernels that only approximate the softmax.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import dropout, pad, scaled_dot_product_attention

from tfcli.nn.patterns import Full
from tfcli.nn.view import BlockMap, BlockRows, CellMap, View
from tfcli.shapes import Bool, Float, Int

Kernel = Callable[..., Tensor]
Queries = Float[Tensor, "B H N E"]
Keys = Float[Tensor, "B H M E"]
Values = Float[Tensor, "B H M F"]
Outputs = Float[Tensor, "B H N F"]


def exact(q: Queries, k: Keys, v: Values, view: View | None = None, drop: float = 0.0) -> Outputs:
    """Compute attention by PyTorch's fused scaled dot-product attention.

    Args:
        view: which keys each query sees; None: all of them.
        drop: probability of dropping a weight (0 outside training).
    """
    if view is None:
        return scaled_dot_product_attention(q, k, v, dropout_p=drop)
    bias = view.score_bias(q, k)
    if bias is None and view.triangular:
        return scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=drop)
    return scaled_dot_product_attention(q, k, v, attn_mask=_merged(bias, view.mask, q), dropout_p=drop)


def _merged(bias: Tensor | None, mask: Tensor | None, q: Tensor) -> Tensor | None:
    """Merge bias and mask into one argument for the fused kernel."""
    if bias is None:
        return mask
    bias = bias.to(q)
    return bias if mask is None else bias.masked_fill(~mask, -torch.inf)


def weights(
    q: Float[Tensor, "B H N E"], k: Float[Tensor, "B H M E"], view: View | None = None
) -> Float[Tensor, "B H N M"]:
    """Return the attention weights; each row sums to one."""
    return _weights(q, k, *((None, None) if view is None else (view.score_bias(q, k), view.mask)))


def _weights(q: Tensor, k: Tensor, bias: Tensor | None, mask: Tensor | None) -> Tensor:
    scale = q.shape[-1] ** -0.5
    if bias is None and mask is not None and mask.ndim == 2:
        # One operation in place of three, without a backward pass for the masked scores.
        hidden = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, -torch.inf)
        scores = torch.baddbmm(hidden, q.flatten(0, 1), k.flatten(0, 1).mT, alpha=scale).unflatten(0, q.shape[:2])
    else:
        scores = (q * scale) @ k.mT
        if bias is not None:
            scores = scores + bias.to(scores)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).to(q.dtype)


def explicit(q: Queries, k: Keys, v: Values, view: View | None = None, drop: float = 0.0) -> Outputs:
    """Compute attention by two matrix products and a softmax. Arguments as for `exact`."""
    return dropout(weights(q, k, view), drop) @ v


def flex(q: Queries, k: Keys, v: Values, view: View | None = None, drop: float = 0.0) -> Outputs:
    """Compute only the non-empty blocks of the mask, or all scores where most blocks are non-empty."""
    blocks = view.blocks if view is not None else None
    if view is None or blocks is None:
        return _dense(q)(q, k, v, view, drop)
    if q.device.type == "cuda" and drop == 0 and view.valid is None:
        return fused_blocks(q, k, v, view, blocks, attend=_compiled_flex_attention())
    return gathered_blocks(q, k, v, view, blocks, drop)


def gathered_blocks(q: Queries, k: Keys, v: Values, view: View, blocks: BlockMap, drop: float = 0.0) -> Outputs:
    """Compute attention of each query block to its non-empty key blocks, which are concatenated."""
    size = blocks.size
    q_blocks, k_blocks, v_blocks = (_cut(t, 2, size) for t in (q, k, v))  # (B, H, R, S, E)
    out, bias = v_blocks.new_empty(*q_blocks.shape[:-1], v.shape[-1]), view.score_bias(q, k)
    for group in blocks.groups:
        ks, vs = (t[:, :, group.columns].flatten(3, 4) for t in (k_blocks, v_blocks))  # (B, H, R, C S, E)
        scores = (q_blocks[:, :, group.rows] * q.shape[-1] ** -0.5) @ ks.mT
        if bias is not None:
            scores = scores + _pick(bias, group, size).to(scores)
        mask = group.mask
        if view.valid is not None:
            valid = _cut(view.valid, 1, size)[:, group.columns].flatten(2)[:, None, :, None]
            mask = mask & (valid | _itself(group, size) if view.is_self else valid)
        lowest = torch.finfo(scores.dtype).min  # not -inf: rows of padded blocks have no keys
        scores = scores.masked_fill(~mask, lowest)
        out[:, :, group.rows] = (dropout(scores.softmax(-1), drop).to(vs.dtype) @ vs).to(out.dtype)
    return out.flatten(2, 3)[:, :, : q.shape[2]]


def fused_blocks(
    q: Queries, k: Keys, v: Values, view: View, blocks: BlockMap, *, attend: Callable[..., Tensor]
) -> Outputs:
    """Compute attention by PyTorch's FlexAttention (Dong et al. 2024), which evaluates the mask inside each block."""
    from torch.nn.attention.flex_attention import BlockMask

    bias, n, m = view.score_bias(q, k), q.shape[2], k.shape[2]
    mask = view.pattern_mask
    assert mask is not None

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
            mask_mod=lambda b, h, i, j: mask[i, j],
            seq_lengths=(n, m),
        )

    score_mod = None  # lambdas, since FlexAttention traces them
    if bias is not None and bias.ndim == 3:
        score_mod = lambda score, b, h, i, j: score + bias[h, i, j]  # noqa: E731
    elif bias is not None:
        score_mod = lambda score, b, h, i, j: score + bias[b, h, i, j]  # noqa: E731

    made = view.query.once(("block mask", view.pattern), block_mask) if view.query is view.key else block_mask()
    return attend(q, k, v, score_mod=score_mod, block_mask=made)


def partition(q: Queries, k: Keys, v: Values, view: View | None = None, drop: float = 0.0) -> Outputs:
    """Compute only the scores inside the cells of the pattern (Swin's windows), with one small softmax for each cell.

    Where the pattern has no cells, or samples have places of their own, call `flex`.
    """
    cells = None if view is None else view.cells
    if view is None or cells is None:
        return flex(q, k, v, view, drop)
    # Cells are treated as further heads, (B, H W, S, E), as every kernel accepts.
    qs, ks, vs = _in_cells(q, cells.rows), _in_cells(k, cells.columns), _in_cells(v, cells.columns)  # (B, H, W, S, E)
    bias, mask = _cell_bias(qs, ks, view, cells), _cell_mask(view, cells, q.shape[1])
    out = _attend(qs.flatten(1, 2), ks.flatten(1, 2), vs.flatten(1, 2), bias, mask, drop)
    out = out.unflatten(1, (q.shape[1], -1)).flatten(2, 3)
    if len(cells.special):
        out = torch.cat([_specials(q, k, v, view, cells, drop), out], 2)
    return out.index_select(2, cells.order)


def _in_cells(t: Float[Tensor, "B H N E"], index: Int[Tensor, "W S"]) -> Float[Tensor, "B H W S E"]:
    return t.index_select(2, index.flatten()).unflatten(2, index.shape)


def _cell_bias(
    q: Float[Tensor, "B H W S E"], k: Float[Tensor, "B H W K E"], view: View, cells: CellMap
) -> Float[Tensor, "*b HW S K"] | None:
    """Return the score bias inside the cells."""
    inside = View(Full(), cells.query, cells.key, memo=view.memo, pos=view.pos)
    if view.bias is not None:
        inside.bias = view.bias[..., cells.rows[:, :, None], cells.columns[:, None]].transpose(-4, -3)
    bias = inside.score_bias(q.transpose(1, 2), k.transpose(1, 2))
    return None if bias is None else bias.transpose(-4, -3).flatten(-4, -3)


def _cell_mask(view: View, cells: CellMap, heads: int) -> Bool[Tensor, "*b HW S K"] | None:
    """Return the mask inside the cells, with padding hidden."""
    key = "cell mask", cells
    if key not in view.memo:
        mask = cells.mask
        if view.valid is not None:
            valid = view.valid[:, cells.columns][:, :, None]  # (B, W, 1, K)
            valid = valid | cells.itself
            mask = valid if mask is None else valid & mask
        view.memo[key] = (
            None
            if mask is None
            else mask[..., None, :, :, :].expand(*mask.shape[:-3], heads, *mask.shape[-3:]).flatten(-4, -3)
        )
    return view.memo[key]


def _specials(q: Tensor, k: Tensor, v: Tensor, view: View, cells: CellMap, drop: float) -> Float[Tensor, "B H s F"]:
    """Compute the attention of the special tokens, which see all keys."""
    rows, mask = cells.special, None
    own = View(Full(), view.query[rows], view.key, memo=view.memo, pos=view.pos)
    if view.bias is not None:
        own.bias = view.bias[..., rows, :]
    if view.valid is not None:
        mask = view.valid[:, None, None] | (rows[:, None] == torch.arange(len(view.key), device=rows.device))
    q = q[:, :, rows]
    return _attend(q, k, v, own.score_bias(q, k), mask, drop)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, mask: Tensor | None, drop: float) -> Tensor:
    if _dense(q) is explicit:
        return dropout(_weights(q, k, bias, mask), drop) @ v
    return scaled_dot_product_attention(q, k, v, attn_mask=_merged(bias, mask, q), dropout_p=drop)


def _dense(q: Tensor) -> Kernel:
    """Return the faster dense kernel: in bfloat16 on a CPU the fused one is slow to train."""
    return explicit if q.dtype == torch.bfloat16 and q.device.type == "cpu" else exact


@cache
def _compiled_flex_attention() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _cut(t: Tensor, axis: int, size: int) -> Tensor:
    """Cut `axis` into blocks of `size`, padding the last one with zeros."""
    fill = [0, 0] * (t.ndim - 1 - axis) + [0, -t.shape[axis] % size]
    return pad(t, fill).unflatten(axis, (-1, size))


def _pick(bias: Float[Tensor, "*b H N M"], group: BlockRows, size: int) -> Float[Tensor, "*b H R S CS"]:
    """Return the bias of a group's blocks."""
    tiles = _cut(_cut(bias, bias.ndim - 1, size), bias.ndim - 2, size).transpose(-3, -2)  # (..., R, C, S, S)
    return tiles[..., group.rows[:, None], group.columns, :, :].transpose(-3, -2).flatten(-2)


def _itself(group: BlockRows, size: int) -> Tensor:
    """Return a mask of the pairs in which query and key are the same token, in the layout of the group's mask."""
    inside = torch.arange(size, device=group.rows.device)
    query = group.rows[:, None] * size + inside
    key = (group.columns[:, :, None] * size + inside).flatten(1)
    return query[:, :, None] == key[:, None]


KernelName = Literal["auto", "exact", "explicit", "flex", "partition"]
"""Name of a kernel; `auto` is partition where the pattern has cells, flex where it is otherwise sparse, else exact."""
KERNELS: dict[str, Kernel] = {"exact": exact, "explicit": explicit, "flex": flex, "partition": partition}
