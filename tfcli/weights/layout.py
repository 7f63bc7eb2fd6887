"""A model's files as a public library has them: what a converter's `export` returns, and the settings it refuses.

A converter that writes declares HOLDS, the values that its library's format can hold of settings that no tensor shows:
`{"pool": "class"}`; a tuple lists several. A setting that is not named there may have any value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from tfcli.errors import ConfigError
from tfcli.weights.names import ACTIVATIONS, Renames, State, inverse, rename

LEARNED = {"pos._target_": "tfcli.nn.positions.Learned", "pos.at": "stem"}
FULL = {
    "attn._target_": "tfcli.nn.attention.Attention",
    "attn.pattern._target_": "tfcli.nn.patterns.Full",
    "attn.kernel._target_": None,  # a kernel with a name is exact
    "attn.scale": None,
}
PART = re.compile(r"((?:.+\.)?(pos|attn))\..*_target_")
PLAIN: dict[str, Any] = {
    **FULL,
    **LEARNED,
    "activation": tuple(dict.fromkeys(ACTIVATIONS.values())),
    "norm": "layer",
    "layer_scale": None,
    "mlp_bias": (None, True),
}
"""The blocks of transformers' BERT, GPT-2, ViT and each tower of CLIP."""


@dataclass(kw_only=True)
class Layout:
    """A model in the format of a public library.

    Attributes:
        library: transformers or torchvision.
        architecture: the library's class or function that loads it, for instance ViTForImageClassification.
        state: tensors by the library's names.
        config: content of `config.json`.
        frames: marks that the library's tokenizer puts around a text, and around a pair of texts, in the words of the
            `tokenizers` library: `("{cls} $A {sep}", "{cls} $A {sep} $B:1 {sep}:1")`; none where it puts none.
    """

    library: str
    architecture: str
    state: State
    config: dict[str, Any] = field(default_factory=dict)
    frames: tuple[str, ...] = ()


def check(converter: ModuleType | None, settings: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """Refuse a model that its family's public format cannot hold.

    Args:
        converter: of the family.
        settings: of the model.
        choices: the option taken in each group, by which `pos` and `attn` are named.

    Raises:
        ConfigError: with every setting that is in the way, and what the format can hold in its place.
    """
    model = choices["model"]
    if converter is None or not hasattr(converter, "export"):
        raise ConfigError(f"`model={model}` has no public format to export to; its run folder holds all of it.")
    refused: dict[str, str] = {}  # by a part's own class, whose settings are then not looked at
    for key, held in sorted(converter.HOLDS.items(), key=lambda entry: not entry[0].endswith("_target_")):
        there, value = _at(settings, key)
        wanted = held if isinstance(held, tuple) else (held,)
        part = key.removesuffix("_target_") if key.endswith("_target_") else None
        if not there or value in wanted or any(key.startswith(other) for other in refused):
            continue
        refused[part if part is not None else key] = (
            f"`{_typed(key, value, choices)}` cannot be exported: the public format of `model={model}` holds "
            f"{_held(key, converter.HOLDS, choices)} alone"
        )
    if not refused:
        return
    values = {key: converter.HOLDS[key] for key in refused if key in converter.HOLDS}  # the others are parts
    typed = " ".join(f"model.{key}={_plain(v[0] if isinstance(v, tuple) else v)}" for key, v in values.items())
    mend = f"Trained with `{typed}` it can be exported. " if len(values) == len(refused) else ""
    raise ConfigError(f"{'; '.join(dict.fromkeys(refused.values()))}. {mend}`model.weights=RUN` takes the run itself.")


def written(state: State, renames: Renames) -> State:
    """Return tensors under a library's names, by the table that reads them; each is a copy that can be saved.

    Raises:
        ConfigError: a tensor has no name there.
    """
    table = inverse(renames)
    named = {rename(name, table): name for name in state}
    lost = [ours for theirs, ours in named.items() if theirs == ours]
    if lost:
        raise ConfigError(f"the tensor `{lost[0]}` of this model has no name in the public format: it is not exported.")
    return {theirs: state[ours].detach().cpu().contiguous().clone() for theirs, ours in named.items()}


def prefixed(state: State, prefix: str, heads: tuple[str, ...]) -> State:
    """Put `prefix` before all names but those of heads, as a library's class with a head has them."""
    return {name if name.startswith(heads) else prefix + name: tensor for name, tensor in state.items()}


def labels(classes: Sequence[str], outputs: int) -> dict[str, Any]:
    """Return the entries of a `config.json` that name a head's outputs."""
    names = list(classes) if len(classes) == outputs else [f"LABEL_{number}" for number in range(outputs)]
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def _at(settings: Mapping[str, Any], path: str) -> tuple[bool, Any]:
    """Return whether there is such a setting, and its value; a run of before it was there has its default."""
    node: Any = settings
    for name in path.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return False, None
        node = node[name]
    return True, node


def _typed(key: str, value: Any, choices: Mapping[str, str]) -> str:
    """Return a setting as a user types it; a part of the model, and the model itself, by the option that was chosen."""
    if key == "_target_":
        return f"model={choices['model']}"
    group = _group(key, choices)
    return f"{group}={choices[group]}" if group else f"model.{key.removesuffix('._target_')}={_plain(value)}"


def _group(key: str, choices: Mapping[str, str]) -> str | None:
    """Return the group by which the part of a model with this `_target_` is chosen, `pos` or `pos@model.text.pos`."""
    part = PART.fullmatch(key)
    groups = (f"{part[2]}@model.{part[1]}", part[2]) if part else ()
    return next((group for group in groups if group in choices), None)


def _held(key: str, holds: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """Return what a format holds, as a user types it: positions by their option, attention by that of its pattern."""
    group, part = _group(key, choices), PART.fullmatch(key)
    if group and part:
        held = holds[f"{part[1]}._target_" if part[2] == "pos" else f"{part[1]}.pattern._target_"]
    else:
        held = holds[key]
    words = map(_plain, held if isinstance(held, tuple) else (held,))
    return " or ".join(f"`{group}={word.lower()}`" if group else word for word in words)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value.rpartition(".")[2]
    return "null" if value is None else str(value).lower()
