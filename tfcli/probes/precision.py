"""The precision of a head's matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether this is a CPU that multiplies bfloat16 faster than float32."""
    if device.type != "cpu":
        return False
    told = getattr(torch.cpu, "get_capabilities", None)  # older releases do not say
    can = told() if told else {}
    return any(can.get(name) for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))


@contextmanager
def full_float32() -> Iterator[None]:
    """Products of float32 in float32, whatever the run has chosen: the heads' bounds on errors count on it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
