"""Compose one checked config from the words of a command line. Imports no torch.

Hydra composes and its grammar rules. The overrides of single values are applied here, one by one, so that a misspelt
key or a value of the wrong type can be answered with the nearest right one and the file that says so.
"""

from __future__ import annotations

import gc
import io
import os
from collections import Counter
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any, cast

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tfcli.engine.config import moved, validate
from tfcli.engine.config.arguments import setting
from tfcli.engine.config.configs import Configs, groups, mounted_heads, options, roots, search_path, torchvision_names
from tfcli.engine.config.offers import task_note, task_of_data
from tfcli.engine.config.shorthand import expand_names, literal
from tfcli.errors import ConfigError, nearest

WORDS = {"data": "data set", "pos": "position", "attn": "attention", "optim": "optimizer"}


@dataclass
class Composition:
    """A composed and checked config.

    Attributes:
        config: the config, interpolations still in place.
        overrides: the overrides it was composed from, as they were typed.
        choices: the option taken in each group, for instance `{"model": "vit", "data": "pets"}`.
        hydra: Hydra's own node, for `--cfg hydra`; a run's saved config has none.
        notes: what was chosen for the user, a line each.
    """

    config: DictConfig
    overrides: list[str]
    choices: dict[str, str]
    hydra: DictConfig | None = field(default=None, repr=False)
    notes: list[str] = field(default_factory=list)


def compose(name: str, overrides: list[str], config_dir: str | None = None) -> Composition:
    """Compose the primary config `name` with `overrides` and check all of it.

    Raises:
        ConfigError: whatever is wrong, with the nearest right word, before anything heavy is imported.
    """
    typed = expand_names(overrides, Configs(roots(config_dir)))
    with _hydra(config_dir) as hydra:
        parsed = [_parse(text) for text in _sugar(typed, config_dir)]
        chosen = [o for o in parsed if _is_choice(o, hydra, config_dir)]
        single = [o for o in parsed if o not in chosen]
        config = _load(hydra, name, chosen, config_dir)
        for key in keys(config):
            validate.check_name(key)
        task = task_of_data(config, _choices(config), chosen, single, Configs(roots(config_dir)))
        if task is not None:
            chosen.append(_parse(f"task={task}"))
            config = _load(hydra, name, chosen, config_dir)
        choices = _choices(config)
        first: dict[str, Any] = {}  # a key that is given twice is still compared with the config's own value
        for override in single:
            _apply(override, config, choices, config_dir, first)
    own = config.hydra
    own.overrides.task = typed
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    without = config.pop("without", [])  # what families set for training and frozen verbs have no use for
    for group in without:
        config.pop(group, None)
        choices.pop(group, None)
    native = config.model.get("input_size") if without else None
    if native and not any(o.key_or_group == "data.image_size" for o in single):
        config.data.image_size = native
    OmegaConf.set_struct(config, True)
    validate.check(config, choices=choices, picked={o.key_or_group for o in chosen})
    notes = [task_note(config, choices)] if task is not None else []
    return Composition(config, typed, choices, own, [*_repeated(parsed), *notes])


def _repeated(parsed: list[Override]) -> list[str]:
    """Return a line for each key that is given more than once: Hydra takes the last without a word."""
    last = {o.key_or_group: o.input_line for o in parsed if not o.is_delete()}
    times = Counter(o.key_or_group for o in parsed if not o.is_delete())
    return [f"`{key}` is given {times[key]} times; the last counts: {last[key]}" for key in times if times[key] > 1]


def given(overrides: list[str], choices: dict[str, str]) -> set[str]:
    """Return the keys that the command or its experiment sets, which nothing else may change.

    Args:
        overrides: of the command.
        choices: the option taken in each group.
    """
    found = {text.lstrip("+").partition("=")[0] for text in overrides}
    names = [choices["experiment"]] if choices.get("experiment") else []
    for name in names:  # grows: an experiment may build on another
        file = next((f for root in search_path() if (f := root / "experiment" / f"{name}.yaml").exists()), None)
        content = yaml.safe_load(file.read_text(encoding="utf-8")) if file else None
        if content:
            names += [entry for entry in content.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
            found.update(keys(OmegaConf.create(content)))
    return found


def set_value(config: DictConfig, text: str) -> tuple[str, Any, Any]:
    """Apply one override of a value to a composed config. Returns its key, the old value and the new.

    Raises:
        ConfigError: there is no such key, or the value is of another kind.
    """
    override = _parse(text)
    key = override.key_or_group
    old = OmegaConf.select(config, key, throw_on_missing=False)
    OmegaConf.set_struct(config, True)
    _apply(override, config, {}, None, {})
    return key, old, OmegaConf.select(config, key, throw_on_missing=False)


def show(
    name: str, overrides: list[str], *, kind: str, package: str | None, resolve: bool, config_dir: str | None
) -> str:
    """Return what Hydra's `--cfg job|hydra|all` prints, as YAML text.

    Raises:
        ConfigError: there is no such package in the config.
    """
    composed = compose(name, overrides, config_dir)
    whole: dict[str, Any] = {"job": composed.config, "hydra": OmegaConf.create({"hydra": composed.hydra})}
    whole["all"] = OmegaConf.merge(whole["hydra"], composed.config)
    config = whole[kind]
    if resolve:
        OmegaConf.resolve(config)
    if package and package != "_global_":
        config = OmegaConf.select(config, package)
        if config is None:
            raise ConfigError(f"`--package {package}`: the config has no such part.{nearest(package, whole[kind])}")
    return OmegaConf.to_yaml(config) if OmegaConf.is_config(config) else f"{config}\n"


def info(name: str, overrides: list[str], *, kind: str, config_dir: str | None) -> str:
    """Return the text of Hydra's `--info all|config|defaults|defaults-tree|plugins|searchpath`."""
    words = _sugar(expand_names(overrides, Configs(roots(config_dir))), config_dir)
    with redirect_stdout(io.StringIO()) as text, _hydra(config_dir) as hydra:  # its logger prints each failure
        hydra.show_info(kind, config_name=name, overrides=words)
    return text.getvalue()


def _choices(config: DictConfig) -> dict[str, str]:
    """Return the option taken in each group."""
    return {k: v for k, v in config.hydra.runtime.choices.items() if v is not None and "/" not in k}


def _parse(text: str) -> Override:
    if text.startswith("="):
        raise ConfigError(f"`{text}` has no key before the `=`. Settings are written key=value.")
    parser = OverridesParser.create()
    try:
        override = parser.parse_override(literal(text))
    except HydraException as error:
        hint = (
            "" if "=" in text or text[:1] in "~+" else f" Settings are written key=value, for instance `model={text}`."
        )
        detail = str(error).splitlines()[0] if "=" in text else ""
        if any(text.count(start) != text.count(end) for start, end in ("()", "[]", "{}")):
            detail = "A bracket is not closed, or not opened."
        raise ConfigError(f"`{text}` is not a setting.{hint} {detail}".strip()) from error
    if override.is_sweep_override():
        raise ConfigError(
            f"`{text}` has several values: add -m (--multirun) to run each, or quote the list: `'{text}'`."
        )
    return override


def _sugar(overrides: list[str], config_dir: str | None) -> list[str]:
    """Expand abbreviations: `model=mobilenet_v2` is short for `model=torchvision model.name=mobilenet_v2`."""
    result = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key == "model" and value not in options("model", config_dir) and value in torchvision_names():
            result += ["model=torchvision", f"model.name={value}"]
        else:
            result += [*mounted_heads(text, roots(config_dir)), text]
    return result


def _is_choice(override: Override, hydra: Hydra, config_dir: str | None) -> bool:
    """Return whether an override picks an option of a group, rather than setting a value."""
    group = override.key_or_group
    if not cast(ConfigLoaderImpl, hydra.config_loader).repository.group_exists(group):
        return False
    value = override.value()
    if isinstance(value, dict):
        return False
    if value is None and not override.is_delete():
        raise ConfigError(
            f"`{override.input_line}`: a {WORDS.get(group, group)} must be named, or leave `{group}=` out."
        )
    if not isinstance(value, list) and not override.is_delete() and not group.startswith("hydra"):
        value = str(value)
        names = options(group, config_dir)
        hidden = any((root / group / f"{value}.yaml").exists() for root in search_path(config_dir))
        if value not in names and not hidden:
            if (group, value) in moved.RENAMED:
                raise ConfigError(f"there is no {WORDS.get(group, group)} `{value}`: {moved.RENAMED[group, value]}.")
            pool = [*names, *(torchvision_names() if group == "model" else ())]
            raise ConfigError(
                f"there is no {WORDS.get(group, group)} `{value}`.{nearest(value, pool)}"
                f"  (`tfcli ls {group}` lists {len(names)})"
            )
    return True


def _load(hydra: Hydra, name: str, chosen: list[Override], config_dir: str | None) -> DictConfig:
    lines = [o.input_line or "" for o in chosen]
    try:
        return hydra.config_loader.load_configuration(name, lines, run_mode=RunMode.RUN)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}" if mark else "a config file"
        raise ConfigError(f"{where}: this is not YAML: {error.problem}.") from error
    except (HydraException, OmegaConfBaseException) as error:
        text = " ".join(str(error).split())
        if not text and error.__cause__ is not None:
            text = " ".join(str(error.__cause__).split())
        raise ConfigError(f"the configs do not compose: {text}") from error


def _apply(
    override: Override, config: DictConfig, choices: dict[str, str], config_dir: str | None, first: dict[str, Any]
) -> None:
    key = override.key_or_group
    validate.check_name(key)
    if override.is_add() and OmegaConf.select(config, key, throw_on_missing=False) is not None:
        line = (override.input_line or "").lstrip("+")
        raise ConfigError(f"`{override.input_line}`: `{key}` is there already: write it without the `+`, `{line}`.")
    if override.is_add() or override.is_force_add():
        owner = config.get(key.partition(".")[0])
        if "." not in key or not OmegaConf.is_config(owner) or "_target_" not in owner:
            raise ConfigError(
                f"`{override.input_line}`: nothing would read `{key}`. "
                "A new key can be added to a part that is called with it, for instance `+model.KEY=VALUE`."
            )
    elif not key.startswith("hydra."):
        _check_key(key, config, choices, config_dir)
        tree = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
        if override.is_delete():
            if not setting(tree, key).optional:
                raise ConfigError(f"`{override.input_line}` removes `{key}`, which is needed: give it another value.")
        else:
            old = first.setdefault(key, OmegaConf.select(config, key, throw_on_missing=False))
            validate.same_type(key, old, override.value(), override.input_line, setting(tree, key).argument)
    try:
        if _is_whole(override, config):
            OmegaConf.update(config, key, override.value(), merge=False)
        else:
            ConfigLoaderImpl._apply_overrides_to_config([override], config)
    except (HydraException, OmegaConfBaseException) as error:
        detail = error.__cause__ or error
        raise ConfigError(f"`{override.input_line}` cannot be applied: {str(detail).splitlines()[0]}") from error


def _is_whole(override: Override, config: DictConfig) -> bool:
    """Tell whether a mapping replaces the old one, where Hydra would add to it: its owner lists it under `whole`."""
    owner, _, name = override.key_or_group.rpartition(".")
    if override.is_add() or not isinstance(override.value(), dict):
        return False
    node = OmegaConf.select(config, owner, throw_on_missing=False) if owner else config
    return isinstance(node, DictConfig) and name in (node.get("whole") or [])


def _check_key(key: str, config: DictConfig, choices: dict[str, str], config_dir: str | None) -> None:
    """Refuse a key that the config does not have, naming the nearest and the file it stands in."""
    node: Any = config
    path = key.split(".")
    for depth, part in enumerate(path):
        if isinstance(node, DictConfig) and part in node:
            node = node._get_node(part)
            if OmegaConf.is_config(node) and node._is_interpolation():
                node = OmegaConf.select(config, ".".join(path[: depth + 1]))
            continue
        known = keys(config)
        if depth == 0 and len(path) == 1:
            pool = [*groups(config_dir), *(str(k) for k in config if k != "hydra"), *known]
            raise ConfigError(f"`{key}` is not a setting.{nearest(key, pool)}  (`tfcli ls` names the groups)")
        close = nearest(key, known)
        group = path[0]
        where = f"  (conf/{group}/{choices[group]}.yaml)" if group in choices else ""
        raise ConfigError(f"`{key}` is not a setting.{close}{where}")


def keys(config: Any, prefix: str = "") -> list[str]:
    """Return all dotted keys of a config, without Hydra's own."""
    found = []
    for name in config:
        if prefix == "" and name == "hydra":
            continue
        found.append(prefix + str(name))
        child = config._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            found += keys(child, f"{prefix}{name}.")
    return found


@contextmanager
def _hydra(config_dir: str | None):
    Plugins.instance()  # registers the sources of configs
    path = ConfigSearchPathImpl()
    path.append("hydra", "pkg://hydra.conf")
    *own, packaged = search_path(config_dir)
    for folder in own:
        path.append("user", f"file://{folder}")
    path.append("main", f"file://{packaged}")
    path.append("schema", "structured://")
    GlobalHydra.instance().clear()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    # OmegaConf derives its loader from yaml.SafeLoader; the C one reads the same files in a third of the time.
    slow, yaml.SafeLoader = yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # type: ignore[misc]
    collecting = gc.isenabled()
    gc.disable()  # thousands of small nodes, all of them kept
    try:
        yield Hydra.create_main_hydra2("tfcli", path)
    finally:
        yaml.SafeLoader = slow  # type: ignore[misc]
        if collecting:
            gc.enable()
        GlobalHydra.instance().clear()
