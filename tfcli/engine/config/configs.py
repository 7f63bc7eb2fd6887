"""Read the config files without Hydra, whose import alone takes longer than a completion may.

A small composer of our own knows defaults lists, bases, `override` entries and packages, and keeps keys and values as
they are written. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tfcli.engine.config.files import PACKAGED, groups_in, options_in

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def roots(config_dir: str | None = None) -> list[Path]:
    """Return the folders of configs; the first match counts, as in `files.search_path`."""
    given = [Path(config_dir).expanduser()] if config_dir else []
    return [p for p in (*given, Path.cwd() / "conf", PACKAGED) if p.is_dir()]


class Configs:
    """The config files below some folders, each read once; `primary` is the one that a verb starts from."""

    def __init__(self, folders: Sequence[Path], primary: str = "train"):
        self.folders, self.primary = list(folders), primary
        self.read: dict[str, dict[str, Any]] = {}

    def file(self, name: str) -> Path | None:
        """Return the first file `name`.yaml; None where there is none."""
        return next((f for root in self.folders if (f := root / f"{name}.yaml").is_file()), None)

    def load(self, name: str) -> dict[str, Any]:
        """Return the values of `name`.yaml; `@package` is its package (`_global_` or nothing)."""
        if name not in self.read:
            path = self.file(name)
            values: dict[str, Any] = {}
            if path is not None:
                text = path.read_text(encoding="utf-8")
                try:
                    values = yaml.load(text, Loader=LOADER) or {}
                except yaml.YAMLError:
                    values = {}
                if text.startswith("# @package _global_"):
                    values["@package"] = "_global_"
            self.read[name] = values
        return self.read[name]

    def options(self, group: str) -> dict[str, str]:
        """Return the options of a group with their descriptions; bases, whose names start with `_`, are left out."""
        return options_in(self.folders, group)

    def mounted(self, group: str, option: str) -> dict[str, Any]:
        """Return the values of one option and of its bases, below the keys where they stand in a config."""
        config: dict[str, Any] = {}
        _mount(self, config, group, option)
        return config

    def overrides(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield the `override /group: option` entries of a config and of its bases, bases first."""
        group = name.partition("/")[0]
        for entry in self.load(name).get("defaults", []):
            if isinstance(entry, str) and entry != "_self_":
                yield from self.overrides(f"{group}/{entry}")
            elif isinstance(entry, dict):
                for key, option in entry.items():
                    if str(key).startswith("override /"):
                        yield str(key).removeprefix("override /"), str(option)

    def classifiers(self) -> list[str]:
        """Return the names of torchvision's classifiers, which `model=` takes as well."""
        values = self.load("model/torchvision")
        return list((values.get("model") or values).get("names", []))

    def groups(self) -> list[str]:
        """Return the names of the groups, sorted."""
        return groups_in(self.folders)


def compose(configs: Configs, typed: Sequence[str]) -> dict[str, Any]:
    """Return the config for the groups chosen in `typed`, and its values as written: interpolations stay text."""
    chosen = {k: v for k, _, v in (word.lstrip("+").partition("=") for word in typed) if configs.file(f"{k}/{v}")}
    order: list[tuple[str, str]] = []
    top = configs.load(configs.primary)
    for entry in top.get("defaults", []):
        if isinstance(entry, dict):
            (group, option), *_ = entry.items()
            order.append((str(group), str(option)))
    selected = {**dict(order), **chosen}
    for group in [g for g, _ in order] + [g for g in chosen if g not in dict(order)]:
        found = configs.overrides(f"{group}/{selected.get(group)}")
        selected |= {other: option for other, option in found if other not in chosen}
    config: dict[str, Any] = {}
    _merge(config, {k: v for k, v in top.items() if k not in ("defaults", "@package")})
    for group, _ in order:
        _mount(configs, config, group, selected[group])
    for group in chosen:
        if group not in dict(order):
            _mount(configs, config, group, chosen[group])
    for group in config.pop("without", []):
        config.pop(group, None)
    return config


def _mount(configs: Configs, config: dict[str, Any], group: str, option: str) -> None:
    """Merge one option of a group, its bases first, where its package says."""
    group, _, package = group.partition("@")
    values = configs.load(f"{group}/{option}")
    if not values:
        return
    for entry in values.get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            _mount(configs, config, group, entry)
        elif isinstance(entry, dict):
            for key, inner in entry.items():
                if not str(key).startswith("override "):
                    _mount(configs, config, str(key).lstrip("/"), str(inner))
    own = {k: v for k, v in values.items() if k not in ("defaults", "@package")}
    if values.get("@package") == "_global_":
        _merge(config, own)
        return
    for part in reversed((package or group).replace("/", ".").split(".")):
        own = {part: own}
    _merge(config, own)


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    """Merge `values` into a config; its mappings are copied, since `Configs` reads each file once for all."""
    for key, value in values.items():
        if isinstance(value, dict):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            _merge(into[key], value)
        else:
            into[key] = value
