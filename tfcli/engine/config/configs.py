"""Find and read the config files without Hydra, whose import alone takes longer than a completion may.

A small composer of our own knows defaults lists, bases, `override` entries and packages, and keeps keys and values as
they are written. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tfcli.engine.config.signatures import summary
from tfcli.errors import ConfigError

PACKAGED = next(p for p in (Path(__file__).parents[2] / "conf", Path(__file__).parents[3] / "conf") if p.is_dir())
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def search_path(config_dir: str | None = None) -> list[Path]:
    """Return the folders of configs, first match first: `--config-dir`, `./conf`, the packaged ones.

    Raises:
        ConfigError: `config_dir` is no folder.
    """
    if config_dir and not Path(config_dir).expanduser().is_dir():
        raise ConfigError(f"`--config-dir {config_dir}` is not a folder.")
    return list(dict.fromkeys(folder.resolve() for folder in roots(config_dir)))


def groups(config_dir: str | None = None) -> list[str]:
    """Return the names of the config groups, for instance `model` and `data`."""
    return groups_in(search_path(config_dir))


def groups_in(folders: Sequence[Path]) -> list[str]:
    """Return the names of the groups below some folders, sorted."""
    return sorted({f.name for root in folders for f in root.iterdir() if f.is_dir() and f.name[0] not in "._"})


def options(group: str, config_dir: str | None = None) -> dict[str, str]:
    """Return the options of a group with their descriptions; names that start with `_` are bases, not options."""
    return options_in(search_path(config_dir), group)


def options_in(folders: Sequence[Path], group: str) -> dict[str, str]:
    """Return the options of a group below some folders, as `options` does; the first file of a name counts."""
    found: dict[str, str] = {}
    for root in folders:
        for file in sorted((root / group).glob("[!_]*.yaml")):
            if file.stem not in found:
                found[file.stem] = describe(file)
    return dict(sorted(found.items()))


def describe(file: Path) -> str:
    """Return the first comment line of a config file that is not a Hydra header."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            text = line.strip()
            if text.startswith("#") and "@package" not in text:
                return text.lstrip("# ")
            if text and not text.startswith("#"):
                break
    return ""


@cache
def torchvision_names() -> tuple[str, ...]:
    """Return the names of torchvision's classifiers, which `model=` takes as well."""
    file = PACKAGED / "model" / "torchvision.yaml"
    return tuple(yaml.safe_load(file.read_text(encoding="utf-8"))["model"]["names"]) if file.exists() else ()


def name_with_size(name: str, model: Mapping[str, Any]) -> str:
    """Return a model's name, and which of its sizes it is where the bare name of a family stands for two.

    Args:
        name: the option of `model`.
        model: its config.
    """
    public = model.get("public")
    if not public or public["model"] == name:
        return name
    size = "sized as its weights are" if model.get("weights") else "laptop size"
    return f"{name} ({size}; the public {public_title(public['model'])} is {public['model']})"


def public_title(model: str) -> str:
    """Return what the file of an option of `model` calls it, before the colon."""
    return options("model").get(model, model).partition(":")[0]


def roots(config_dir: str | None = None) -> list[Path]:
    """Return the folders of configs as `search_path` does; a `config_dir` that is no folder is left out."""
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


FROZEN_VERBS = ("probe", "zeroshot", "linear", "knn")
"""Verbs that start from `conf/probe.yaml`: all heads, or one alone."""


def heads_of(config: Mapping[str, Any], groups: Collection[str] = ()) -> list[str]:
    """Return the names of the heads in a config: top-level nodes with `_target_` that are no part of another group.

    Args:
        groups: names of the groups that the config was composed of.
    """
    nodes = [(str(name), node) for name, node in config.items() if name not in groups]
    return [name for name, node in nodes if isinstance(node, Mapping) and "_target_" in node]


def known_heads(configs: Configs) -> dict[str, str]:
    """Return all heads that `heads=` may name, with their descriptions: those of `conf/probe.yaml`, then one a file."""
    probe = configs.load("probe")
    return {name: summary(str(probe[name]["_target_"])) for name in heads_of(probe)} | configs.options("head")


def mounted_heads(text: str, folders: Sequence[Path]) -> list[str]:
    """Return the overrides that put the heads of an override `heads=[...]` which are files into the config."""
    key, _, value = text.partition("=")
    own = Configs(folders).options("head") if key == "heads" else {}
    return [f"+head@{name}={name}" for name in value.strip("[]").replace(" ", "").split(",") if name in own]
