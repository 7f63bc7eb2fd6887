"""From what `model.weights` names to an opened checkpoint that the model's converter reads."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from tfcli.weights import classes, kinds
from tfcli.weights.files import Checkpoint, open_checkpoint
from tfcli.weights.hub import find
from tfcli.weights.place import Place


def converter_of(target: str) -> ModuleType | None:
    """Return the module that converts weights of a model, by its `_target_`; None for a family without one.

    It is `tfcli.weights.vit` for the models of `tfcli.models.vit`.
    """
    module, _, _ = target.rpartition(".")
    package, _, stem = module.rpartition(".")
    name = f"tfcli.weights.{stem}"
    return import_module(name) if package == "tfcli.models" and find_spec(name) else None


def open_weights(
    weights: str, *, target: str, torchvision_name: str | None, shapes_only: bool = False
) -> tuple[Place, Checkpoint]:
    """Find and open a checkpoint, and name its classes where it or its owner states them.

    Args:
        weights: a file, a folder, an address (https://...), or the name of a public checkpoint.
        target: the model's `_target_`, for instance `tfcli.models.clip.CLIP`.
        torchvision_name: what torchvision calls the model, for names of weights that leave it out (`IMAGENET1K_V1`).
        shapes_only: do not read the values where the format allows.

    Raises:
        WeightsError: it cannot be found or opened, or is of a family that the model's converter does not read.
    """
    place = find(weights, torchvision_name=torchvision_name)
    checkpoint = open_checkpoint(place.path, shapes_only=shapes_only)
    kinds.check(checkpoint, converter_of(target), model=target.split(".")[-2], weights=weights)
    checkpoint.classes = checkpoint.classes or place.classes or classes.stated(checkpoint.config)
    return place, checkpoint
