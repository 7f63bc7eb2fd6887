"""Names of tensors in files -> our names, as every family's converter does it."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from tfcli.errors import WeightsError

State = dict[str, Tensor]
Renames = list[tuple[str, str]]
"""Regular expressions for the beginnings of names in a file, and our names for them; the first match counts."""
ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "relu": "relu",
    "quick_gelu": "quick_gelu",
    "quickgelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
}
"""Activations: names in transformers and timm -> our names (`tfcli.nn.blocks`)."""
HEAD_WIDTHS = {1152: 72, 1280: 80, 1408: 88, 1664: 104}
"""Width of a published ViT -> channels of each of its 16 heads; in all others a head has 64."""


def usual_heads(width: int) -> int:
    """Return the number of heads that published models of this width have: 64 channels each, see `HEAD_WIDTHS`."""
    heads = max(width // HEAD_WIDTHS.get(width, 64), 1)
    while width % heads:
        heads -= 1
    return heads


def known_activation(name: str) -> str:
    """Return our name of an activation that a checkpoint states.

    Raises:
        WeightsError: we have no such activation.
    """
    if name not in ACTIVATIONS:
        raise WeightsError(
            f"the checkpoint was trained with the activation {name!r}; known are {', '.join(ACTIVATIONS)}."
        )
    return ACTIVATIONS[name]


def their_activation(name: str) -> str:
    """Return transformers' name of one of our activations; raises KeyError where it has none."""
    return {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}[name]


def rename(name: str, renames: Renames) -> str:
    """Return the name with its beginning replaced; one that nothing fits stays as it is, and is refused later."""
    for pattern, ours in renames:
        match = re.match(pattern, name)
        if match:
            return match.expand(ours) + name[match.end() :]
    return name


def inverse(renames: Renames) -> Renames:
    """Return a table read the other way: patterns of our names, and the names in a file for them.

    Of alternatives in a file's name the first is written, an optional part is left out. The first match counts here
    too, so a row whose name of ours begins that of another stands after it.
    """
    return [_inverted(theirs, ours) for theirs, ours in renames]


def _inverted(theirs: str, ours: str) -> tuple[str, str]:
    plain = re.sub(r"\(\?:[^()]*\)\?", "", theirs)
    plain = re.sub(r"\(\?:([^()|]*)[^()]*\)", r"\1", plain)
    groups = dict(enumerate(re.findall(r"\(([^()]*)\)", plain), start=1))
    numbers = iter(groups)

    def reference(group: re.Match[str]) -> str:
        number = next(numbers)
        return rf"\g<g{number}>" if f"\\{number}" in ours else group[1].partition("|")[0]

    template = re.sub(r"\(([^()]*)\)", reference, plain).replace(r"\.", ".").removesuffix("$")
    parts = re.split(r"\\(\d)", ours)
    pattern = "".join(rf"(?P<g{p}>{groups[int(p)]})" if i % 2 else re.escape(p) for i, p in enumerate(parts))
    return pattern + "$" * theirs.endswith("$"), template


def split(state: State, *, parts: tuple[str, str, str] = ("query", "key", "value")) -> State:
    """Undo `fuse`: `attention.qkv` -> `attention.query`, `.key`, `.value`, or what `parts` calls them; so `cross`."""
    apart: State = {}
    for name, tensor in state.items():
        if re.search(r"\.(attention|cross)\.qkv\.", name):
            chunks = zip(parts, tensor.chunk(3), strict=True)
            apart |= {name.replace(".qkv.", f".{part}."): chunk for part, chunk in chunks}
        else:
            apart[name] = tensor
    return apart


def fuse(state: State, *, parts: tuple[str, str, str] = ("query", "key", "value")) -> State:
    """Stack `attention.query`, `.key`, `.value` (or what `parts` calls them) on rows as `attention.qkv`; so `cross`.

    Raises:
        WeightsError: one of the three is missing or of another shape.
    """
    first, *_ = parts
    single = re.compile(rf"\.(attention|cross)\.({'|'.join(parts)})\.")
    fused = {name: tensor for name, tensor in state.items() if not single.search(name)}
    for name in state:
        match = single.search(name)
        if not match or match[2] != first:
            continue
        names = [name.replace(f".{first}.", f".{part}.") for part in parts]
        there = [state[part] for part in names if part in state]
        if len({part.shape for part in there}) != 1 or len(there) != 3:
            raise WeightsError(f"`{name}` has no key and value of its shape beside it.")
        fused[name.replace(f".{first}.", ".qkv.")] = torch.cat(there)
    return fused


def count(state: State, pattern: str) -> int:
    """Count the distinct numbers that the group of `pattern` matches in the names."""
    return len({match[1] for match in (re.match(pattern, name) for name in state) if match})
