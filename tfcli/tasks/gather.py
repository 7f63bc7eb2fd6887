"""Gathering of rows from all ranks into one tensor, with gradients or sorted by index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def ranks() -> tuple[int, int]:
    """Return the rank of this process and the number of processes; (0, 1) without distributed training."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def all_gather_with_grad(x: Tensor) -> Tensor:
    """Return the rows of all ranks in order of rank: from (B, ...) on each rank to (W B, ...) on all ranks.

    The gradient of a rank's rows is the sum of the gradients of all ranks' losses, so that the mean over the ranks in
    data-parallel training is the gradient of the mean loss. (A similar function in torch.distributed.nn is deprecated.)

    Args:
        x: rows, of equal shape on all ranks.
    """
    return x if ranks()[1] == 1 else _Gather.apply(x)


def all_rows(parts: Sequence[Tensor]) -> Tensor:
    """Return the rows (N, C) of all ranks, sorted by their first column; ranks may have different numbers of rows.

    Args:
        parts: this rank's rows, in pieces (B, C) of whole numbers; may be empty.
    """
    own = torch.cat(list(parts)).cpu() if parts else None
    found = [own]
    if ranks()[1] > 1:
        found = [None] * ranks()[1]
        dist.all_gather_object(found, own)
    rows = torch.cat([rows for rows in found if rows is not None])
    return rows[rows[:, 0].argsort()]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rank, world = ranks()
        ctx.own = slice(rank * len(x), (rank + 1) * len(x))
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(whole)
        return whole[ctx.own]
