"""Rows of all ranks as one tensor, with the gradients going back to the ranks they came from."""

from __future__ import annotations

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
