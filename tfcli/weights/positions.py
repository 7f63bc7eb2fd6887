"""Position tables for another grid."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor, nn

from tfcli.errors import WeightsError
from tfcli.nn.resampling import note_resized, resample
from tfcli.shapes import Float


def resize_positions(
    table: Float[Tensor, "N D"], grid: tuple[int, int], *, special: int, source: str = "transformers"
) -> tuple[Float[Tensor, "M D"], str | None]:
    """Resample a table learned on a square grid to `grid`; entries of special tokens are kept as they are.

    Args:
        table: `special` entries, then the grid's, row by row.
        grid: rows and columns wanted.
        special: number of special tokens.
        source: whose checkpoint it is, and so whose rule: a key of `RULES`.

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
    table = table.float()
    resized = torch.cat([table[:special], resample(table[special:], (side, side), tuple(grid), rule=source)])
    return resized, note_resized((side, side), grid, source)


def fit_line(
    state: dict[str, Tensor], name: str, net: nn.Module, *, context: int, notes: list[str]
) -> dict[str, Tensor]:
    """Return a table of positions in line, cut to the context of `net`, or left out where `net` learns none.

    Args:
        state: tensors by our names.
        name: of the table.
        net: the model to fit it to.
        context: the longest sequence that `net` takes.
        notes: lines for the log, to which a change adds one.

    Raises:
        WeightsError: the table is shorter than the context.
    """
    table = state.get(name)
    if table is None:
        return state
    if not any(name == ours for ours, _ in net.named_parameters()):
        notes.append("learned positions: left out, since this model has other positions (`pos=`)")
        return {other: tensor for other, tensor in state.items() if other != name}
    if len(table) < context:
        raise WeightsError(
            f"the checkpoint has positions for {len(table):,} tokens, the model a context of {context:,}: lower "
            "`model.context`, or take positions that reach any length (`pos=sinusoidal`, `pos=rope`, `pos=alibi`)."
        )
    if len(table) > context:
        notes.append(f"positions {len(table):,} -> {context:,}: the first of them")
    return {**state, name: table[:context]}
