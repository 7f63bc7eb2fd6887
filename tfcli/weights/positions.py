"""Position tables for another grid."""

from __future__ import annotations

from math import isqrt

from torch import Tensor
from torch.nn.functional import interpolate

from tfcli.errors import WeightsError
from tfcli.shapes import Float


def resize_positions(
    table: Float[Tensor, "N D"], grid: tuple[int, int], *, special: int, antialias: bool = False
) -> tuple[Float[Tensor, "M D"], str | None]:
    """A table learned on a square grid, resampled to `grid`; entries of special tokens are kept as they are.

    Bicubic, corners not aligned, as in transformers; timm adds the antialias filter, torchvision aligns the corners
    (Dosovitskiy et al. 2021, section 3.2, leaves the kernel open).

    Args:
        table: `special` entries, then the grid's, row by row.
        grid: rows and columns wanted.
        special: number of special tokens.
        antialias: low-pass before shrinking.

    Returns:
        The table, and a line for the log if it had to be resampled.

    Raises:
        WeightsError: the table's grid is not square.
    """
    tokens = len(table) - special
    side = isqrt(max(tokens, 0))
    if side * side != tokens or not tokens:
        raise WeightsError(
            f"a position table of {len(table)} entries, {special} of them special, is not that of a square grid."
        )
    if (side, side) == tuple(grid):
        return table, None
    cells = table[special:].float().unflatten(0, (side, side)).permute(2, 0, 1)[None]
    cells = interpolate(cells, size=tuple(grid), mode="bicubic", align_corners=False, antialias=antialias)
    resized = table.new_empty(special + grid[0] * grid[1], table.shape[1]).float()
    resized[:special], resized[special:] = table[:special], cells[0].flatten(1).mT
    return resized, f"positions {side}x{side} -> {grid[0]}x{grid[1]}: bicubic, antialias {'on' if antialias else 'off'}"
