"""Check a composed config before torch is imported.

Types, choices and bounds of a value stand in the signature of the part that takes it, or in the option of a library's
class (`tfcli.engine.config.signatures`). What only a constructor can know, it checks itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from tfcli.engine.config import targets
from tfcli.engine.config.arguments import INTERPOLATION, absolute, settings
from tfcli.engine.config.configs import Configs, heads_of, known_heads, roots
from tfcli.engine.config.moved import SETTINGS
from tfcli.engine.config.offers import check_offer, columns_of
from tfcli.engine.config.signatures import Argument
from tfcli.errors import ConfigError, IncompatibleError, nearest


def same_type(key: str, old: Any, new: Any, line: str | None, known: Argument | None = None) -> None:
    """Refuse a value whose kind differs from the one it replaces.

    Where the part itself says which values it takes (`known`), that is looked at when all of the config is there.

    Raises:
        ConfigError: text for a number, a number for a group of settings, and the like.
    """
    if isinstance(new, str) and new.startswith("${"):
        return
    if isinstance(old, DictConfig | dict) and not isinstance(new, dict | None):
        own = [f"{key}.{name}" for name in map(str, old) if not name.startswith("_")]
        raise ConfigError(
            f"`{key}` is a group of settings, not one value; `{line}` would replace it. "
            f"Set one of them: {', '.join(own[:6])}."
        )
    kinds = {bool: "true or false", int: "a whole number", float: "a number"}
    kind = type(old)
    if kind not in kinds or (known is not None and known.kind.restricts):
        return
    fits = {bool: isinstance(new, bool), int: _is(new, int), float: _is(new, int, float)}[kind]
    if not fits:
        shown = "null" if new is None else f"`{new}`"
        raise ConfigError(f"`{key}` must be {kinds[kind]}, but is {shown}; it was {old}.")


def check(config: DictConfig, *, choices: dict[str, str], picked: set[str]) -> None:
    """Refuse values out of range, parts that do not fit, and interpolations that lead nowhere.

    Args:
        config: what Hydra composed.
        choices: the option taken in each group.
        picked: the groups that the command itself named.

    Raises:
        ConfigError: the first thing that is wrong.
    """
    raw = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    targets.check(raw)
    _check_nodes(raw)
    if raw.get("task") and raw.get("model"):
        check_offer(raw["model"], raw["task"], choices, Configs(roots()))
    _check_needs(config, choices)
    try:
        values = _resolved(config)
    except ConfigError:
        _check_settings(raw, raw)  # a wrong word may be why an interpolation that is made of it leads nowhere
        raise
    targets.check(values)
    _check_settings(raw, values)
    _check_heads(values, choices)
    for path, node in _groups(values):
        check_parts(path, node)
        own_size = node.get("weights") in (None, "random")  # else the checkpoint's, checked when that has been read
        if own_size:
            _divides(path, node, "heads", "width")
        if own_size and path != "data":  # there it is a suggestion, which only some models take
            _divides(path, node, "patch_size", "image_size")
        if isinstance(node.get("names"), list) and node.get("name") not in node["names"]:
            raise ConfigError(
                f"`{path}.name`: there is no `{node.get('name')}`.{nearest(str(node.get('name')), node['names'])}"
            )
    for group in ("pos", "attn"):
        if group in picked and "model" in config and f"${{{group}}}" not in str(raw.get("model")):
            part = "positions" if group == "pos" else "attention"
            raise ConfigError(
                f"`{group}={choices.get(group)}`: model `{choices.get('model')}` has no {part} to swap; "
                f"leave `{group}=` out."
            )


def check_name(key: str) -> None:
    """Raise ConfigError where a setting, of a command or of a user's own file, has a name that it had once."""
    if key in SETTINGS:
        raise ConfigError(f"`{key}` is not a setting: it is now called `{SETTINGS[key]}`.")


NODES = ("model", "task", "task.view", "data", "data.source", "optim", "schedule")
"""Keys of parts, each a node with the `_target_` of its class."""


def _check_nodes(raw: dict[str, Any]) -> None:
    """Refuse a text in place of a part: a part is named by the node of its class, not by a word."""
    for key in NODES:
        value, name = _at(raw, key), key.rpartition(".")[2]
        if isinstance(value, str) and "${" not in value:
            raise ConfigError(f"`{key}` must be a node, `{name}: {{_target_: MODULE.CLASS}}`, but is `{value}`.")


def _check_needs(config: DictConfig, choices: dict[str, str]) -> None:
    """Refuse data that have not what the task needs; first, since a model may refer to what only other data state."""
    needs = list(OmegaConf.select(config, "task.needs", default=None) or [])
    columns = columns_of(config.get("data", {}))
    missing = [need for need in needs if need not in columns]
    if missing and "data" in config:
        configs = Configs(roots())
        sets = {name: columns_of(configs.mounted("data", name).get("data", {})) for name in configs.options("data")}
        fitting = [name for name, has in sets.items() if set(needs) <= set(has)]
        raise ConfigError(
            f"task `{choices.get('task')}` needs {', '.join(missing)}, which data `{choices.get('data')}` does "
            f"not have. Data that would fit: {', '.join(fitting) or 'none yet'}."
        )


def _check_heads(values: dict[str, Any], choices: dict[str, str]) -> None:
    """Refuse a head that no node of the config is: a node that names its class by `_target_`."""
    there = heads_of(values, choices)
    known = list(dict.fromkeys([*there, *known_heads(Configs(roots()))]))
    for name in values.get("heads", []):
        if name not in there:
            raise ConfigError(
                f"`heads`: there is no head `{name}`.{nearest(str(name), known)} There are {', '.join(known)}; one of "
                f"your own is a file conf/head/{name}.yaml with the `_target_` of its class."
            )
    if values.get("heads") == []:
        raise ConfigError(f"`heads` names none. There are {', '.join(known)}.")


def check_values(values: dict[str, Any]) -> None:
    """Refuse single values out of range. Raises ConfigError for the first."""
    targets.check(values)
    _check_settings(values, values)


def _check_settings(raw: dict[str, Any], values: dict[str, Any]) -> None:
    """Refuse values that their part does not take, and names that it does not know.

    A value that only refers to another is named as that other, which is what was typed. Where it is null, it is known
    later, from the data.
    """
    for key, written, argument, owner in settings(raw):
        leaf = key.rpartition(".")[2]
        refers = INTERPOLATION.fullmatch(written) if isinstance(written, str) else None
        name = absolute(refers[1], key) if refers else key
        value = _at(values, name)
        if isinstance(value, str) and "${" in value:
            continue
        if refers and (value is None or isinstance(value, dict)):
            continue  # a part, `${attn}`, is looked at where it stands
        endless = isinstance(value, float) and not isfinite(value)
        if argument is not None and argument.kind.restricts and not argument.kind.takes(value):
            shown = "null" if value is None else f"`{value}`{', which is not finite' if endless else ''}"
            raise ConfigError(f"`{name}` must be {argument.kind.words()}, but is {shown}.{argument.kind.hint(value)}")
        if endless:
            raise ConfigError(f"`{name}` must be a finite number, but is `{value}`.")
        if argument is None and owner is not None and not owner.open and not leaf.startswith("_"):
            target = owner.target.rpartition(".")[2]
            known = [k for k, v in owner.arguments.items() if not v.kind.any]  # others may be parts, which nobody types
            close = nearest(leaf, known) or nearest(leaf, owner.arguments)
            raise ConfigError(f"`{key}`: {target} takes no `{leaf}`.{close}")


def _at(values: dict[str, Any], key: str) -> Any:
    """Return the value at a dotted key; None where there is none."""
    value: Any = values
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _resolved(config: DictConfig) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except MissingMandatoryValue as error:
        raise ConfigError(f"`{error.full_key}` has no value yet: give it, `{error.full_key}=...`.") from error
    except (InterpolationKeyError, InterpolationResolutionError) as error:
        raise ConfigError(
            f"`{error.full_key}` refers to something that is not there: {str(error).splitlines()[0]}"
        ) from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"the config cannot be resolved: {str(error).splitlines()[0]}") from error


def _groups(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.items():
        if isinstance(child, dict):
            yield from _groups(child, f"{path}.{name}" if path else str(name))


def _divides(path: str, node: dict[str, Any], small: str, large: str) -> None:
    a, b = node.get(small), node.get(large)
    if isinstance(a, int) and isinstance(b, int) and b % a:
        divisors = [d for d in range(1, b + 1) if b % d == 0]
        close = sorted(sorted(divisors, key=lambda d: abs(d - a))[:2])
        thing = f"an image of {b}" if large == "image_size" else f"a {large} of {b}"
        prefix = f"{path}." if path else ""
        source = "`data.image_size`" if large == "image_size" else f"`{prefix}{large}`"
        raise ConfigError(
            f"`{prefix}{small}` must divide {source}, but is {a} for {thing}. Nearest: {', '.join(map(str, close))}."
        )


def _is(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def check_parts(path: str, node: dict[str, Any]) -> None:
    """Refuse an `attn` and a `pos` that do not fit, in the node of a model or of one of its towers.

    `conf/pos` says what a position acts on (`applies_to`) and its `placements`; `conf/attn` says what an approximation
    `refuses` and which patterns it `takes`. The parts check the same when they are built, so that a user's own need
    not say it.

    Raises:
        IncompatibleError: with what to swap.
    """
    attn, pos = node.get("attn"), node.get("pos")
    where = "" if path in ("", "model") else f"{path}."
    if isinstance(pos, dict) and pos.get("placements") and pos.get("at") not in pos["placements"]:
        raise IncompatibleError(
            f"`{where}pos.at` must be {' or '.join(pos['placements'])} for positions that act on "
            f"{pos.get('applies_to')}, but is `{pos.get('at')}`."
        )
    if not isinstance(attn, dict):
        return
    kernel = attn.get("kernel")
    name = _name(kernel if isinstance(kernel, dict) else attn)
    pattern = _name(attn["pattern"]) if isinstance(attn.get("pattern"), dict) else "full"
    for asked in (pattern, "causal" if attn.get("causal") else "full"):
        if attn.get("takes") and asked not in attn["takes"]:
            raise IncompatibleError(
                f"{name} attention takes a {' or '.join(attn['takes'])} pattern, but is given a {asked} one "
                f"(`{where}attn.pattern`, `{where}attn.causal`)."
            )
    if isinstance(pos, dict) and pos.get("applies_to") in attn.get("refuses", []):
        raise IncompatibleError(
            f"{name} attention cannot take positions that act on {pos['applies_to']}, as {_name(pos)} ones do: "
            f"swap `{where}pos` (none, learned, sinusoidal … act on tokens) or `{where}attn`."
        )


def _name(node: dict[str, Any]) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2].lower()
