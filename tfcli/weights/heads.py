"""Heads of a checkpoint: which of them a net takes, and which stay as they were built."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tfcli.errors import WeightsError
from tfcli.weights import classes as classnames
from tfcli.weights.files import Checkpoint
from tfcli.weights.load_report import HEADS, LoadReport
from tfcli.weights.names import State

LABELLED = ("classes", "tags")
"""Kinds of heads whose outputs have names; others give numbers of another meaning."""


def why_useless(net: nn.Module, checkpoint: Checkpoint, ours: Sequence[str]) -> str:
    """Return why a checkpoint's head is of no use: it gives something else, or knows other classes; or "".

    Args:
        net: the model.
        checkpoint: opened.
        ours: names of the data's classes.
    """
    theirs = checkpoint.classes
    run = checkpoint.config.get("run", {}).get("model")
    if getattr(net, "head", None) is None:
        return ""
    no_choice = classnames.no_choice(checkpoint.config) if getattr(net, "kind", "classes") == "classes" else ""
    if no_choice:
        return f"the checkpoint's {no_choice}"
    if run is not None:
        theirs_there = any(name.partition(".")[0] in HEADS for name in checkpoint.state)
        if theirs_there and run.get("head") != getattr(net, "kind", None):
            return f"the run's gives {run.get('head')}"
        same = not theirs_there or list(theirs) == list(ours)
    else:
        same = len(theirs) != len(ours) or classnames.agree(theirs, ours)  # another number is told with both numbers
    if same or not theirs or not ours or getattr(net, "kind", "classes") not in LABELLED:
        return ""
    return f"the {'run' if run else 'checkpoint'}'s knows {two_lists(theirs, ours)}"


def two_lists(theirs: Sequence[str], ours: Sequence[str]) -> str:
    return f"{classnames.listed(theirs)}, the data have {classnames.listed(ours)}"


def fit_head(
    state: State, net: nn.Module, num_classes: int | None, report: LoadReport, *, lacking: str, lists: str = ""
) -> State:
    """Keep a head of `net` where the checkpoint has none, or one that differs in its number of outputs alone."""
    heads = [module for module in (getattr(net, name, None) for name in HEADS) if isinstance(module, nn.Module)]
    for head in [name for name, module in net.named_modules() if name and any(module is other for other in heads)]:
        ours = {f"{head}.{name}": tensor for name, tensor in net.get_submodule(head).state_dict().items()}
        if not ours:
            continue
        classes = len(list(ours.values())[-1])
        labelled = getattr(net, "kind", "classes") in LABELLED
        if labelled and num_classes not in (None, classes):
            raise WeightsError(f"the model's head has {classes} classes, the data {num_classes}.")
        theirs = {name: state[name] for name in ours if name in state}
        what = head if head in HEADS else HEADS[0]
        if not theirs:
            of = f" of {classes} classes" if labelled else ""
            report.notes.append(f"{what}{of}: new, since {lacking}")
        elif theirs.keys() == ours.keys() and _differ_in_outputs(list(theirs.values()), list(ours.values())):
            report.outputs = len(list(theirs.values())[-1])
            report.notes.append(f"{what} {report.outputs} -> {classes} classes: new{lists}")
        else:
            continue
        report.new.append(what)
        state = state | ours
    return state


def _differ_in_outputs(theirs: list[Tensor], ours: list[Tensor]) -> bool:
    pairs = list(zip(theirs, ours, strict=True))
    return all(a.shape[1:] == b.shape[1:] for a, b in pairs) and any(len(a) != len(b) for a, b in pairs)
