"""Settings that a checkpoint implies and no tensor holds, put into a net that is already built."""

from __future__ import annotations

from typing import Any

from torch import nn

from tfcli.errors import WeightsError
from tfcli.nn.attention import MultiHead
from tfcli.nn.blocks import ACTIVATIONS, GatedMlp, Mlp


def apply_settings(net: nn.Module, settings: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Give a net the activation and the epsilon that its weights were trained with, and compare the heads.

    Args:
        net: a built model.
        settings: `activation`, `norm_eps`, `heads` and `pos.resample`, of a tower as `image.activation`.

    Returns:
        The settings that the net has a place for, and lines for the log on those that changed.

    Raises:
        WeightsError: the net has another number of heads, or a gated MLP in place of a plain one.
    """
    taken: dict[str, Any] = {}
    notes: list[str] = []
    for name, value in settings.items():
        tower, _, key = name.rpartition(".")
        if key == "resample":
            tower = tower.removesuffix("pos").rstrip(".")  # positions are a part of a tower's stack
        part = net.get_submodule(tower)
        stack = getattr(part, "stack", None)
        if stack is None:
            continue
        before = _values(part, stack, key)
        if key == "resample" and (not before or before == {value}):
            continue
        if before and before != {value}:
            if key == "heads" or "swiglu" in (*before, value):
                raise WeightsError(f"the model's `{name}` is {_listed(before)}, the checkpoint's is {value}.")
            _set(part, stack, key, value)
            if key != "resample":  # says itself where it is used
                notes.append(f"{name} {_listed(before)} -> {value}: as the checkpoint's")
        taken[name] = value
    return taken, notes


def _values(part: nn.Module, stack: nn.Module, key: str) -> set[Any]:
    if key == "heads":
        return {module.heads for module in stack.modules() if isinstance(module, MultiHead)}
    if key == "resample":
        return {pos.resample for pos in stack.positions if hasattr(pos, "resample")}  # type: ignore[union-attr]
    if key == "norm_eps":
        return {norm.eps for norm in _norms(part)}
    plain = {name for name, kind in ACTIVATIONS.items() for mlp in _plain(stack) if repr(kind()) == repr(mlp.act)}
    return plain | {"swiglu" for module in stack.modules() if isinstance(module, GatedMlp)}


def _set(part: nn.Module, stack: nn.Module, key: str, value: Any) -> None:
    if key == "norm_eps":
        for norm in _norms(part):
            norm.eps = value
    elif key == "resample":
        for pos in stack.positions:  # type: ignore[union-attr]
            pos.resample = value
    else:
        for mlp in _plain(stack):
            mlp.act = ACTIVATIONS[value]()


def _plain(stack: nn.Module) -> list[Mlp]:
    return [module for module in stack.modules() if isinstance(module, Mlp)]


def _norms(part: nn.Module) -> list[nn.LayerNorm | nn.RMSNorm]:
    return [module for module in part.modules() if isinstance(module, nn.LayerNorm | nn.RMSNorm)]


def _listed(values: set[Any]) -> str:
    return ", ".join(sorted(f"{value:g}" if isinstance(value, float) else str(value) for value in values))
