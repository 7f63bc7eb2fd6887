"""Precision of matrix products of the heads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from tfcli.shapes import Float


def has_bfloat16(device: torch.device) -> bool:
    """Return whether this is a CPU that multiplies bfloat16 faster than float32."""
    if device.type != "cpu":
        return False
    return any(_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))


@cache
def _capabilities() -> dict[str, Any]:
    return getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch have no such function


def matmul(a: Float[Tensor, "N R"], b: Float[Tensor, "R M"]) -> Float[Tensor, "N M"]:
    """Return the matrix product of two matrices of one type.

    On an AMD CPU numpy's OpenBLAS multiplies float32 1.1 to 1.5 times as fast as torch's MKL, so it is used there.
    """
    if a.device.type == "cpu" and a.dtype == torch.float32 and "AMD" in str(_capabilities().get("cpu_name")):
        return torch.from_numpy(np.matmul(a.numpy(), b.numpy()))
    return a @ b


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def full_float32() -> Iterator[None]:
    """Multiply float32 in full float32 inside the context, which the heads' error bounds need; numpy uses as many
    threads as torch.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with _blas().limit(limits=torch.get_num_threads()):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
