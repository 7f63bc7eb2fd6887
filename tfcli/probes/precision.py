"""Precision of matrix products of the heads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Return whether this is a CPU that multiplies bfloat16 faster than float32."""
    if device.type != "cpu":
        return False
    read = getattr(torch.cpu, "get_capabilities", dict)  # older releases of torch have no such function
    capabilities: dict = read()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))


@contextmanager
def full_float32() -> Iterator[None]:
    """Multiply float32 in full float32 inside the context, which the heads' error bounds need."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
