"""`model.weights=NAME|PATH`: find a checkpoint, translate its names, fit head and positions, load it to the letter."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from tfcli.errors import WeightsError
from tfcli.weights.heads import HEADS, fit_head, two_lists, why_useless
from tfcli.weights.load_report import LoadReport
from tfcli.weights.names import State
from tfcli.weights.open_weights import converter_of, open_weights
from tfcli.weights.settings import apply_settings


def load_weights(
    net: nn.Module,
    weights: str,
    *,
    num_classes: int | None = None,
    classes: Sequence[str] = (),
    typed: Collection[str] = (),
) -> LoadReport:
    """Put the tensors of a checkpoint into `net`.

    The converter is `tfcli.weights.<stem>` for a model of `tfcli.models.<stem>`; without one the names must be the
    net's. A head stays as built when the checkpoint has none or one of another number of classes, and positions are
    resampled for another grid, both noted. Anything else that is missing, left over or of another shape is an error.
    Half-precision values become float32 exactly.

    Args:
        net: a built model; `net.head` is its head, and `net.head_dist` a second one.
        weights: a file, a folder, an address (https://...), or the name of a public checkpoint.
        num_classes: K of the data, checked against the head; None: not checked.
        classes: their names; a head that knows others is not taken.
        typed: keys that the user gave, such as `model.norm_eps`: these settings stay the net's own.

    Raises:
        WeightsError: the checkpoint cannot be found or opened, or is for another architecture.
    """
    target = f"{type(net).__module__}.{type(net).__name__}"
    converter = converter_of(target)
    name_of = getattr(converter, "torchvision_name", None)
    _, checkpoint = open_weights(weights, target=target, torchvision_name=name_of(net) if name_of else None)
    report = LoadReport(weights, str(checkpoint.path), list(checkpoint.notes))
    state = checkpoint.state
    if converter:
        state, notes, settings = converter.convert(state, net, config=checkpoint.config)
        report.notes += notes
        implied = {name: value for name, value in settings.items() if f"model.{name}" not in typed}
        report.settings, notes = apply_settings(net, implied)
        report.notes += notes
    theirs, lacking = checkpoint.classes, why_useless(net, checkpoint, classes)
    if lacking:
        state = {name: tensor for name, tensor in state.items() if name.partition(".")[0] not in HEADS}
    lists = f", since the checkpoint's knows {two_lists(theirs, classes)}" if theirs and classes else ""
    state = fit_head(state, net, num_classes, report, lacking=lacking or "the checkpoint has none", lists=lists)
    wanted = net.state_dict()
    lackable = getattr(converter, "LACKABLE", ())
    state = _fit_parts(state, wanted, getattr(converter, "OPTIONAL", ()), report, lackable=lackable)
    state = _count_batches(state, wanted)
    describe = getattr(converter, "describe", None)
    _compare(state, wanted, str(checkpoint.path), describe(state) if describe else "")
    _copy(state, net, wanted)
    return report


def _fit_parts(
    state: State, wanted: State, parts: Collection[str], report: LoadReport, *, lackable: Collection[str]
) -> State:
    """Keep a part of the net that the checkpoint lacks, leave out one that only the checkpoint has.

    Args:
        parts: that either may have alone.
        lackable: that the checkpoint may lack, but not have in vain.
    """
    for part in (*parts, *lackable):
        ours, theirs = ({n for n in names if n == part or n.startswith(f"{part}.")} for names in (wanted, state))
        if ours and not theirs:
            state = state | {name: wanted[name] for name in ours}
            report.notes.append(f"{part}: new, since the checkpoint has none")
            report.new.append(part)
        elif theirs and not ours and part in parts:
            state = {name: tensor for name, tensor in state.items() if name not in theirs}
            report.notes.append(f"{part}: left out, since this model has none")
    return state


def _count_batches(state: State, wanted: State) -> State:
    """Add batch norm's counters, which old files lack; they matter only for a cumulative mean, which none has."""
    missing = [name for name in wanted if name.endswith(".num_batches_tracked") and name not in state]
    return state | {name: torch.zeros_like(wanted[name]) for name in missing}


def _compare(state: State, wanted: State, path: str, hint: str) -> None:
    names = [*wanted, *(name for name in state if name not in wanted)]
    rows = [(name, _shape(wanted.get(name)), _shape(state.get(name))) for name in names]
    different = [row for row in rows if row[1] != row[2]]
    if not different:
        return
    shown = [("name", "model", "file"), *different[:5]]
    widths = [max(len(row[column]) for row in shown) for column in range(3)]
    lines = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown
    ]
    more = f"\n  and {len(different) - 5} more" if len(different) > 5 else ""
    raise WeightsError(
        f"`{path}` is not for this model: {len(different)} of {len(names)} tensors differ.{hint}\n"
        + "\n".join(lines)
        + more
    )


def _shape(tensor: Tensor | None) -> str:
    return "-" if tensor is None else str(tuple(tensor.shape))


def _copy(state: State, net: nn.Module, wanted: State) -> None:
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())]
    if bad:
        raise WeightsError(f"the checkpoint has NaN or infinite values in {len(bad)} tensors, the first in `{bad[0]}`.")
    ready = type(wanted)((name, state[name].to(wanted[name].dtype)) for name in wanted)
    ready._metadata = wanted._metadata  # type: ignore[attr-defined]  # by now the names are the current ones, whatever version wrote the file
    net.load_state_dict(ready, strict=True)
