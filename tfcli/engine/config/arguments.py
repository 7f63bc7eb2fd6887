"""Find the argument behind a setting: from a key of the config to its kind, default and help. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tfcli.engine.config.settings import FACTS, NESTED_FACTS
from tfcli.engine.config.signatures import Argument, Signature, signature, stated

INTERPOLATION = re.compile(r"\$\{([\w.]+)\}")
_SETTINGS = "tfcli.engine.config.settings."


class Setting(NamedTuple):
    """One value of a config: its key, its value as written, its argument, and the signature of its owner."""

    key: str
    raw: Any
    argument: Argument | None
    owner: Signature | None

    @property
    def optional(self) -> bool:
        """Return whether it may be removed: its argument has a default, or its owner takes any arguments."""
        if self.owner is None or self.owner.target.startswith(_SETTINGS):
            return False
        return self.owner.open if self.argument is None else self.argument.default is not ...


def settings(tree: Mapping[str, Any]) -> Iterator[Setting]:
    """Yield all values of a config with interpolations in place; `_target_` and the like are left out."""
    yield from _below(tree, "", _owner("", tree, None))


def setting(tree: Mapping[str, Any], key: str) -> Setting:
    """Return the value at a dotted key; an interpolation on the way (`model.pos`, which is `pos`) is followed."""
    node: Any = tree
    owner, argument = _owner("", tree, None), None
    path: list[str] = []
    for part in key.split("."):
        argument = _argument(owner, part)
        path.append(part)
        node = node.get(part) if isinstance(node, Mapping) else None
        if isinstance(node, str) and (inner := INTERPOLATION.fullmatch(node)) and part != key.rpartition(".")[2]:
            path = inner[1].split(".")
            node = setting(tree, inner[1]).raw
        owner = _owner(".".join(path), node, argument) if isinstance(node, Mapping) else None
    parent = key.rpartition(".")[0]
    return Setting(key, node, argument, setting(tree, parent).owner if parent and owner is None else owner)


def absolute(reference: str, key: str) -> str:
    """Return the key that an interpolation in the value of `key` refers to: `..root` in `data.source.root` is
    `data.root`.
    """
    name = reference.lstrip(".")
    dots = len(reference) - len(name)
    return ".".join([*key.split(".")[:-dots], name]) if dots else name


def _below(node: Mapping[str, Any], path: str, owner: Signature | None) -> Iterator[Setting]:
    for name, value in node.items():
        if name == "_bounds_":
            continue
        key = f"{path}.{name}" if path else str(name)
        argument = None if str(name).startswith("_") else _argument(owner, str(name))
        unknown = argument is None and owner is not None and not owner.open and not str(name).startswith("_")
        if (
            isinstance(value, Mapping)
            and not unknown
            and (argument is None or argument.kind.any or argument.fields or "_target_" in value)
        ):
            yield from _below(value, key, _owner(key, value, argument))
        else:
            yield Setting(key, value, argument, owner)


def _owner(path: str, node: Any, argument: Argument | None) -> Signature | None:
    """Return the signature of the callable that takes a group of settings; None where it is not known."""
    if isinstance(node, Mapping) and "_target_" in node:
        known = signature(str(node["_target_"]))
        return stated(str(node["_target_"]), node["_bounds_"]) if known is None and "_bounds_" in node else known
    if argument is not None and argument.fields is not None:
        return argument.fields
    return signature(_SETTINGS + (path.capitalize() or "Config")) if "." not in path else None


def _argument(owner: Signature | None, name: str) -> Argument | None:
    found = owner.arguments.get(name, owner.each) if owner else None
    if found is not None:
        return found
    for facts, names in (("Facts", FACTS), ("PartsOfParts", NESTED_FACTS)):
        if name in names and (known := signature(_SETTINGS + facts)):
            return known.arguments[name]
    return None
