"""Summarise a checkpoint without a model to load it into."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tfcli.weights import kinds
from tfcli.weights.files import open_checkpoint
from tfcli.weights.preprocessing import stated


def summarise(path: str | Path) -> dict[str, Any]:
    """Return tensors, values, types, size and digest of a checkpoint, and whose names it has where we know them.

    Raises:
        WeightsError: it cannot be opened.
    """
    checkpoint = open_checkpoint(path)
    tensors = list(checkpoint.state.values())
    found = ((reads, detect(checkpoint.state)) for reads, detect in kinds.detectors())
    seen = stated(checkpoint.path.parent, checkpoint.config)
    row = {
        "path": str(checkpoint.path),
        "bytes": checkpoint.path.stat().st_size,
        "tensors": len(tensors),
        "values": sum(tensor.numel() for tensor in tensors),
        "types": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}),
        "names": next((f"{reads} of {names}" for reads, names in found if names), ""),
        "first": next(iter(checkpoint.state)),
        **(seen.settings if seen else {}),
    }
    with checkpoint.path.open("rb") as file:
        row["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return row
