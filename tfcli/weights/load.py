"""`model.weights=NAME|PATH`: find a checkpoint, translate its names, fit head and positions, load it to the letter.

`blueprint` says beforehand what model a checkpoint is of, for families whose files tell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from tfcli.errors import WeightsError
from tfcli.weights import classes as classnames
from tfcli.weights import kinds
from tfcli.weights.files import Checkpoint, open_checkpoint
from tfcli.weights.hub import Place, find
from tfcli.weights.preprocessing import stated
from tfcli.weights.settings import apply_settings

State = dict[str, Tensor]

HEADS = ("head", "head_dist")
"""Attributes of a net that give its logits, and are replaced when the classes differ."""

LABELLED = ("classes", "tags")
"""Kinds of heads whose outputs have names; others give numbers of another meaning."""

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")
"""Files by which a tokenizer stands beside a checkpoint."""


@dataclass
class LoadReport:
    """Report of a load.

    Attributes:
        source: the name or path that was asked for.
        path: the file that was read.
        notes: lines for the log, such as `head 1000 -> 37 classes: new`.
        new: parts that are not the checkpoint's, but as they were made: nothing they say counts before training.
        settings: arguments of the model that the checkpoint implies (`norm_eps`). They are already set on the net; keep
            them in the run's config, or the net will be built otherwise the next time.
    """

    source: str
    path: str
    notes: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    outputs: int | None = None

    @property
    def new_head(self) -> bool:
        """Whether the head is not the checkpoint's."""
        return any(part in HEADS for part in self.new)

    def refuse_untrained(self, remedy: str, *, unused: Collection[str] = ()) -> None:
        """Refuse to measure or show what parts say that nobody has trained: the one check of every verb that does so.

        Args:
            remedy: how to train them, a sentence.
            unused: parts that are not asked.

        Raises:
            WeightsError: a part that is asked is new.
        """
        untrained = [part for part in self.new if part not in unused]
        if untrained:
            named = " and ".join(f"`{part}`" for part in untrained)
            why = "; ".join(note for note in self.notes if any(note.startswith(part) for part in untrained))
            raise WeightsError(
                f"`{self.source}` has no trained {named} for this model ({why}), and what an untrained part says is no "
                f"result. {remedy}"
            )


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
        """The settings `model` with these in place of its own.

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
    place = find(weights, torchvision_name=name_of(settings or {}) if name_of else None)
    checkpoint = open_checkpoint(place.path, shapes_only=True)
    kinds.check(checkpoint, converter, model=target.split(".")[-2], weights=weights)
    told = None if seen else place.preprocessing or stated(checkpoint.path.parent, checkpoint.config)
    found = reads(checkpoint) if reads else None
    classes = _class_names(checkpoint, place)
    if found is None and told is None and not classes:
        return None
    model: dict[str, Any] = {}
    data: dict[str, Any] = {}
    notes: list[str] = []
    if found is not None:
        model, data, notes = found
    if converter and model.pop("_target_", target) != target:
        raise WeightsError(f"`{checkpoint.path}` is not for this model.{converter.describe(checkpoint.state)}")
    folder = checkpoint.path.parent
    tokenizer = folder if any((folder / name).is_file() for name in VOCABULARIES) else None
    fixed = tuple(getattr(converter, "SHAPES", ()))
    images, source = (told.settings, told.source) if told else ({}, "")
    searches = getattr(converter, "search", None) if found else None
    task, lines = searches(folder, checkpoint.config) if searches else ({}, [])
    notes = [*checkpoint.notes, *notes, *lines]
    head_of = getattr(converter, "head_of", lambda _: None)
    return Blueprint(
        model, data | images, tokenizer, checkpoint.path, notes, fixed, source, classes, task, head_of(checkpoint)
    )


def load_weights(
    net: nn.Module,
    weights: str,
    *,
    num_classes: int | None = None,
    classes: Collection[str] = (),
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
    converter = _converter(net)
    place = find(weights, torchvision_name=torchvision_name(net))
    checkpoint = open_checkpoint(place.path)
    kinds.check(checkpoint, converter, model=type(net).__module__.rpartition(".")[2], weights=weights)
    report = LoadReport(weights, str(checkpoint.path), list(checkpoint.notes))
    state = checkpoint.state
    if converter:
        state, notes, settings = converter.convert(state, net, config=checkpoint.config)
        report.notes += notes
        implied = {name: value for name, value in settings.items() if f"model.{name}" not in typed}
        report.settings, notes = apply_settings(net, implied)
        report.notes += notes
    theirs, ours = _class_names(checkpoint, place), list(classes)
    lacking = _other_head(net, checkpoint, theirs, ours)
    if lacking:
        state = {name: tensor for name, tensor in state.items() if name.partition(".")[0] not in HEADS}
    lists = f", since the checkpoint's knows {_two_lists(theirs, ours)}" if theirs and ours else ""
    state = _fit_head(state, net, num_classes, report, lacking=lacking or "the checkpoint has none", lists=lists)
    wanted = net.state_dict()
    lackable = getattr(converter, "LACKABLE", ())
    state = _fit_parts(state, wanted, getattr(converter, "OPTIONAL", ()), report, lackable=lackable)
    state = _count_batches(state, wanted)
    describe = getattr(converter, "describe", None)
    _compare(state, wanted, str(checkpoint.path), describe(state) if describe else "")
    _copy(state, net, wanted)
    return report


def torchvision_name(net: nn.Module) -> str | None:
    """Return what torchvision calls a network, which may be on the meta device; None where it has no such one."""
    name_of = getattr(_converter(net), "torchvision_name", None)
    return name_of(net) if name_of else None


def _converter(net: nn.Module) -> ModuleType | None:
    """`tfcli.models.vit` -> `tfcli.weights.vit`, where there is one."""
    return converter_of(f"{type(net).__module__}.{type(net).__name__}")


def converter_of(target: str) -> ModuleType | None:
    """Return the module that converts weights of a model, by its `_target_`; None for a family without one."""
    module, _, _ = target.rpartition(".")
    package, _, stem = module.rpartition(".")
    name = f"tfcli.weights.{stem}"
    return import_module(name) if package == "tfcli.models" and find_spec(name) else None


def _class_names(checkpoint: Checkpoint, place: Place) -> tuple[str, ...]:
    return checkpoint.classes or place.classes or classnames.stated(checkpoint.config)


def _other_head(net: nn.Module, checkpoint: Checkpoint, theirs: Sequence[str], ours: Sequence[str]) -> str:
    """Why the head is of no use: it gives something else, or knows other classes. Empty where it is."""
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
    return f"the {'run' if run else 'checkpoint'}'s knows {_two_lists(theirs, ours)}"


def _two_lists(theirs: Sequence[str], ours: Sequence[str]) -> str:
    return f"{classnames.listed(theirs)}, the data have {classnames.listed(ours)}"


def _fit_head(
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


def _differ_in_outputs(theirs: list[Tensor], ours: list[Tensor]) -> bool:
    pairs = list(zip(theirs, ours, strict=True))
    return all(a.shape[1:] == b.shape[1:] for a, b in pairs) and any(len(a) != len(b) for a, b in pairs)


def _count_batches(state: State, wanted: State) -> State:
    """Files older than batch norm's counters lack them; they matter only for a cumulative mean, which none has."""
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
