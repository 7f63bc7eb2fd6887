"""Read what a checkpoint states about its model, images and classes, before the model is built."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tfcli.errors import WeightsError
from tfcli.weights.open_weights import converter_of, open_weights
from tfcli.weights.preprocessing import stated

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")
"""Files by which a tokenizer stands beside a checkpoint."""


@dataclass
class Blueprint:
    """A checkpoint's own statements, as settings of a config.

    Attributes:
        model: settings of `config.model`; a part with a `_target_` is whole, see `apply`.
        data: settings of `config.data`: how images are seen.
        images: who says so; empty where nobody does.
        classes: names of what its head knows; empty where nobody says so.
        tokenizer: a folder that `tfcli.text.tokenizer.load` reads, or None: the family's usual one.
        path: the file that holds the weights, or the folder of a sharded one.
        notes: lines for the log.
        fixed: settings of the model that the tensors fix: no other value can be typed.
        task: settings of `config.task`: how what the model writes is searched for.
        head: what the head that a language model was fine-tuned with answers, as a task's `answer` says it, and its
            outputs; None where it has none.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    tokenizer: Path | None
    path: Path
    notes: list[str] = field(default_factory=list)
    fixed: tuple[str, ...] = ()
    images: str = ""
    classes: tuple[str, ...] = ()
    task: dict[str, Any] = field(default_factory=dict)
    head: tuple[str, int] | None = None

    def apply(self, model: dict[str, Any], typed: Collection[str] = ()) -> dict[str, Any]:
        """Return the settings `model` with these in place of its own.

        A tower of the same class keeps its attention and positions, one of another class is replaced whole.

        Args:
            model: `config.model` as plain values, its interpolations unresolved.
            typed: keys that the user gave, such as `model.image.activation`: they stay as they are.
        """
        merged = dict(model)
        for name, value in self.model.items():
            old = model.get(name)
            if isinstance(value, dict) and isinstance(old, dict) and value.get("_target_") == old.get("_target_"):
                value = old | value | {key: old[key] for key in ("attn", "pos") if key in old}
            merged[name] = deepcopy(value)
        for key in typed:
            *path, leaf = key.removeprefix("model.").split(".")
            old, new = _inside(model, path), _inside(merged, path)
            if key.startswith("model.") and leaf in old and leaf in new:
                new[leaf] = old[leaf]
        return merged

    @cached_property
    def digest(self) -> str | None:
        """SHA-256 of the weights file; None for a sharded one. Takes about a second for each GB."""
        if not self.path.is_file():
            return None
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(node: Any, path: list[str]) -> dict[str, Any]:
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def blueprint(
    target: str, weights: str, settings: dict[str, Any] | None = None, *, seen: bool = False
) -> Blueprint | None:
    """Return what a checkpoint says of its model and its images, without building it; None where it says nothing.

    Args:
        target: the model's `_target_`, for instance `tfcli.models.clip.CLIP`.
        weights: as for `load_weights`.
        settings: the model's own so far, for names of torchvision that leave the model's out (`IMAGENET1K_V1`).
        seen: how images are seen is known: do not ask the checkpoint.

    Raises:
        WeightsError: the checkpoint cannot be found or opened, is of a kind that is not read, or states something of
            its images that is not possible here.
    """
    converter = converter_of(target)
    reads = getattr(converter, "blueprint", None)
    name_of = getattr(converter, "torchvision_name_of", None)
    name = name_of(settings or {}) if name_of else None
    place, checkpoint = open_weights(weights, target=target, torchvision_name=name, shapes_only=True)
    told = None if seen else place.preprocessing or stated(checkpoint.path.parent, checkpoint.config)
    found = reads(checkpoint) if reads else None
    if found is None and told is None and not checkpoint.classes:
        return None
    nothing: tuple[dict[str, Any], dict[str, Any], list[str]] = ({}, {}, [])
    model, data, notes = found or nothing
    if converter and model.pop("_target_", target) != target:
        raise WeightsError(f"`{checkpoint.path}` is not for this model.{converter.describe(checkpoint.state)}")
    folder = checkpoint.path.parent
    searches = getattr(converter, "search", None) if found else None
    task, lines = searches(folder, checkpoint.config) if searches else ({}, [])
    head_of = getattr(converter, "head_of", None)
    return Blueprint(
        model=model,
        data=data | told.settings if told else data,
        images=told.source if told else "",
        tokenizer=folder if any((folder / name).is_file() for name in VOCABULARIES) else None,
        path=checkpoint.path,
        notes=[*checkpoint.notes, *notes, *lines],
        fixed=tuple(getattr(converter, "SHAPES", ())),
        classes=checkpoint.classes,
        task=task,
        head=head_of(checkpoint) if head_of else None,
    )
