"""Interpolation of tables learned on one grid to another, by the rule of the library that the checkpoint comes from."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Literal

from torch import Tensor
from torch.nn.functional import interpolate

from tfcli.shapes import Float

Resampling = Literal["transformers", "dinov2_with_registers", "timm", "open_clip", "torchvision"]
RULES: dict[str, dict[str, Any]] = {
    "transformers": {"mode": "bicubic", "align_corners": False},
    "dinov2_with_registers": {"mode": "bicubic", "align_corners": False, "antialias": True},
    "timm": {"mode": "bicubic", "align_corners": False, "antialias": True},
    "open_clip": {"mode": "bicubic", "align_corners": False, "antialias": True},
    "torchvision": {"mode": "bicubic", "align_corners": True},
}
"""Source of a checkpoint -> arguments of torch's `interpolate` with which its library resamples a position table.

The ViT paper does not state the method (Dosovitskiy et al. 2021, section 3.2).
"""


def resample(
    table: Float[Tensor, "R D"], before: tuple[int, ...], after: tuple[int, ...], *, rule: str = "transformers"
) -> Float[Tensor, "S D"]:
    """Interpolate a table of a grid's cells, in row-major order, to another grid.

    Tables of one axis belong to text, and are never stretched. On three axes the rule is trilinear.

    Args:
        table: a row for each cell of the grid `before`.
        before: sizes of the axes now.
        after: new sizes of the axes.
        rule: a key of `RULES`.
    """
    if before == after or len(before) == 1:
        return table
    cells = table.float().unflatten(0, before).movedim(-1, 0)[None]  # (1, D, *axes)
    options = RULES[rule] if len(before) == 2 else {"mode": "trilinear", "align_corners": False}
    cells = interpolate(cells, size=after, **options)
    return cells[0].flatten(1).mT.reshape(prod(after), -1).to(table.dtype)


def note_resized(before: Sequence[int], after: Sequence[int], rule: str) -> str:
    """Return the log line for a table that is resampled."""
    options, sizes = RULES[rule], ["x".join(map(str, grid)) for grid in (before, after)]
    how = ", ".join([options["mode"], *(name.replace("_", " ") for name in options if options[name] is True)])
    return f"positions {sizes[0]} -> {sizes[1]}, as {rule.partition('_with')[0]} does: {how}"
