"""Rows of all ranks as one tensor: with the gradients going back to the ranks they came from, or by their index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def ranks() -> tuple[int, int]:
    """This process and how many there are; (0, 1) where none were started."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def all_gather_with_grad(x: Tensor) -> Tensor:
    """The rows of all ranks in order of rank: (B, ...) on each to (W B, ...) on all.

    The gradient of a rank's rows is the sum of what all ranks' losses say about them, so the mean over the ranks that
    data-parallel training takes is the gradient of the mean loss. (torch.distributed.nn has the like, deprecated.)

    Args:
        x: of equal shape on all ranks.
    """
    return x if ranks()[1] == 1 else _Gather.apply(x)


def all_rows(parts: Sequence[Tensor]) -> Tensor:
    """Rows (N, C) of all ranks, however many each has, in the order of their first column.

    Args:
        parts: this rank's rows, in pieces (B, C) of whole numbers; none where it had nothing to do.
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
