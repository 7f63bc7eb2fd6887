"""Names and files of torchvision's weights, and what torchvision states of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tfcli.errors import WeightsError, nearest
from tfcli.weights.place import Place, file_of
from tfcli.weights.preprocessing import HALF, Preprocessing, of_torchvision

FILE = re.compile(r"\w+-[0-9a-f]{8}\.pth")
NAME = re.compile(r"(?:(?P<model>[a-z][a-z0-9_]*)\.)?(?P<weights>DEFAULT|IMAGENET1K_\w+)")


def parts_of(weights: str) -> tuple[str | None, str] | None:
    """Return the model and the weights of a name of torchvision's; None for other words.

    `ResNet34_Weights.IMAGENET1K_V1`, as torchvision writes it, is `resnet34.IMAGENET1K_V1`; the model may be left out.
    """
    long = re.fullmatch(r"(\w+)_Weights\.(\w+)", weights)
    match = NAME.fullmatch(f"{long[1].lower()}.{long[2]}" if long else weights)
    return (match["model"], match["weights"]) if match else None


def find_by_name(model: str | None, weights: str, *, asked: str) -> Place:
    """Return the file of torchvision's weights, fetched if it is not here yet.

    Args:
        model: what torchvision calls it; None: it has no such one.
        weights: for instance IMAGENET1K_V1, or DEFAULT.
        asked: the name as it was typed.

    Raises:
        WeightsError: there are no such weights, or they cannot be fetched.
    """
    if model is None:
        raise WeightsError(
            f"`{asked}` is a name of torchvision, which has no weights for a model of this family and size."
        )
    from torchvision.models import get_model_weights, list_models

    names = {name.replace("_", ""): name for name in list_models()}
    full = names.get(model.replace("_", ""))  # ViT_B_16_Weights and ResNet34_Weights are written without a rule
    if full is None:
        raise WeightsError(f"torchvision has no model `{model}`.{nearest(model, names.values())}")
    choices = {choice.name: choice for choice in get_model_weights(full)}
    entry = get_model_weights(full).DEFAULT if weights == "DEFAULT" else choices.get(weights)
    if entry is None:
        raise WeightsError(
            f"torchvision has no `{weights}` for {full}, but {', '.join(choices)}.{nearest(weights, choices)}"
        )
    licence = entry.meta.get("license") or "BSD-3-Clause, torchvision's own"
    return _stated(file_of(entry.url, name=f"{full}.{entry.name}", about=f"licence {licence}"), full, entry)


def _stated(path: Path, model: str, entry: Any) -> Place:
    """Return what torchvision says of its weights beside their file."""
    found = of_torchvision(entry.transforms(), f"torchvision's {model}.{entry.name}")
    if model in ("googlenet", "inception_v3"):  # torchvision rescales to this inside these two
        found = Preprocessing(found.settings | {"mean": HALF, "std": HALF}, found.source)
    return Place(path, found, tuple(entry.meta.get("categories") or ()))


def find_by_file(path: Path) -> Place | None:
    """Return what torchvision says of a file that it publishes under this name, such as `resnet34-b627a593.pth`."""
    if not FILE.fullmatch(path.name):
        return None
    from torchvision.models import get_model_weights, list_models

    for model in list_models():
        for entry in get_model_weights(model):
            if entry.url.endswith(f"/{path.name}") and hasattr(entry.transforms(), "crop_size"):
                return _stated(path, model, entry)
    return None
