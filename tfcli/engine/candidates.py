"""Candidates for shell completion: settings, options of groups, values, runs, files.

Hydra alone takes longer to import than a completion may take, so the configs are read here by a small composer of our
own: it knows defaults lists, bases, `override` entries and packages, and keeps keys and values as they are written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tfcli.engine import record

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PATHS = {"data.root", "model.weights", "run.dir", "run.root"}
RUNS = {"model.weights", "task.teacher"}
OF_SWEEPS = ("launcher", "search")
"""Groups that no config composes: a sweep takes them off the words of its jobs."""


class Candidate(NamedTuple):
    """A word that may stand here, and what it means."""

    word: str
    help: str = ""


def roots(config_dir: str | None = None) -> list[Path]:
    """Folders of configs, the first match first (as `tfcli.engine.compose.search_path` has them)."""
    here = Path(__file__)
    packaged = [p for p in (here.parents[1] / "conf", here.parents[2] / "conf") if p.is_dir()][:1]
    given = [Path(config_dir).expanduser()] if config_dir else []
    return [p for p in (*given, Path.cwd() / "conf", *packaged) if p.is_dir()]


class Configs:
    """The config files below some folders, each read once; `primary` is the one that a verb starts from."""

    def __init__(self, folders: Sequence[Path], primary: str = "train"):
        self.folders, self.primary = list(folders), primary
        self.read: dict[str, dict[str, Any]] = {}

    def file(self, name: str) -> Path | None:
        """The first file `name`.yaml."""
        return next((f for root in self.folders if (f := root / f"{name}.yaml").is_file()), None)

    def load(self, name: str) -> dict[str, Any]:
        """The values of `name`.yaml; `@package` is its package (`_global_` or nothing)."""
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
        """The options of a group with their descriptions; bases, whose names start with `_`, are left out."""
        found: dict[str, str] = {}
        for root in self.folders:
            for path in sorted((root / group).glob("*.yaml")):
                if not path.name.startswith("_"):
                    found.setdefault(path.stem, _describe(path))
        return dict(sorted(found.items()))

    def mounted(self, group: str, option: str) -> dict[str, Any]:
        """The values of one option and of its bases, below the keys where they stand in a config."""
        config: dict[str, Any] = {}
        _mount(self, config, group, option)
        return config

    def overrides(self, name: str) -> Iterator[tuple[str, str]]:
        """`override /group: option` entries of a config and of its bases, bases first."""
        group = name.partition("/")[0]
        for entry in self.load(name).get("defaults", []):
            if isinstance(entry, str) and entry != "_self_":
                yield from self.overrides(f"{group}/{entry}")
            elif isinstance(entry, dict):
                for key, option in entry.items():
                    if str(key).startswith("override /"):
                        yield str(key).removeprefix("override /"), str(option)

    def classifiers(self) -> list[str]:
        """The names of torchvision's classifiers, which `model=` takes as well."""
        values = self.load("model/torchvision")
        return list((values.get("model") or values).get("names", []))

    def groups(self) -> list[str]:
        """The names of the groups, sorted."""
        return sorted({p.name for root in self.folders for p in root.iterdir() if p.is_dir() and p.name[0] not in "._"})


def _describe(path: Path) -> str:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("#") and "@package" not in line:
                return line.lstrip("# ").strip()
            if line.strip() and not line.startswith("#"):
                break
    return ""


def compose(configs: Configs, typed: Sequence[str]) -> dict[str, Any]:
    """The config for the groups chosen in `typed`, and its values as written: interpolations stay text."""
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
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def settings(
    typed: Sequence[str], current: str, *, config_dir: str | None = None, primary: str = "train"
) -> list[Candidate]:
    """Overrides that complete `current`, given the words typed before it: groups, their options, keys and values."""
    configs = Configs(roots(config_dir), primary)
    if current.startswith("launcher.") and not any(word.startswith("launcher=") for word in typed):
        typed = [*typed, "launcher=local"]
    key, equals, value = current.partition("=")
    if equals:
        return [Candidate(f"{key}={word}", text) for word, text in _values(configs, typed, key, value)]
    plus = key[: len(key) - len(key.lstrip("+"))]
    name = key[len(plus) :]
    if "." not in name:
        return [Candidate(plus + word, text) for word, text in _tops(configs, typed) if word.startswith(name)]
    parent, _, leaf = name.rpartition(".")
    node: Any = compose(configs, typed)
    for part in parent.split("."):
        node = node.get(part) if isinstance(node, dict) else None
        node = _followed(configs, typed, node)
    found = []
    for child, inner in (node if isinstance(node, dict) else {}).items():
        if str(child).startswith(leaf) and not str(child).startswith("_"):
            deeper = isinstance(inner, dict) and inner
            now = "" if deeper else f"now {_plain(inner)}"
            found.append(Candidate(f"{plus}{parent}.{child}{'.' if deeper else '='}", now))
    return found


def _followed(configs: Configs, typed: Sequence[str], node: Any) -> Any:
    """Follow an interpolation such as `${pos}` by one step."""
    if isinstance(node, str) and node.startswith("${") and node.endswith("}"):
        target: Any = compose(configs, typed)
        for part in node[2:-1].split("."):
            target = target.get(part) if isinstance(target, dict) else None
        return target
    return node


def _tops(configs: Configs, typed: Sequence[str]) -> Iterator[Candidate]:
    top = configs.load(configs.primary)
    known = {str(k) for entry in top.get("defaults", []) if isinstance(entry, dict) for k in entry}
    groups = sorted(known - set(top.get("without", []))) + [g for g in OF_SWEEPS if configs.options(g)]
    for group in groups:
        yield Candidate(f"{group}=", f"{len(configs.options(group))} to choose from")
    for key, value in compose(configs, typed).items():
        if key in groups:
            continue
        if isinstance(value, dict):
            yield from (Candidate(f"{key}.{k}=", f"now {_plain(v)}") for k, v in value.items())
        else:
            yield Candidate(f"{key}=", f"now {_plain(value)}")


def _values(configs: Configs, typed: Sequence[str], key: str, value: str) -> Iterator[tuple[str, str]]:
    """Words for the value of a key. After a comma the next value of a sweep is completed."""
    name = key.lstrip("+")
    if name in RUNS:
        yield from runs(value)
    if name in PATHS and not (name in RUNS and "/" in value):  # a run may be a path as well
        yield from files(value)
        return
    before, comma, last = value.rpartition(",")
    done = set(before.split(","))
    for word, text in _words(configs, typed, name, last):
        if word.startswith(last) and word not in done:
            yield before + comma + word, text


def _words(configs: Configs, typed: Sequence[str], name: str, last: str) -> Iterator[tuple[str, str]]:
    options = configs.options(name.partition("@")[0]) if "." not in name.partition("@")[0] else {}
    if options:
        yield from options.items()
        if name == "model" and last:
            yield from ((word, "torchvision classifier") for word in configs.classifiers() if word not in options)
        return
    from tfcli.engine.arguments import setting

    found = setting(compose(configs, typed), name)
    words = [*(found.argument.kind.values() if found.argument else ())]
    now = found.raw
    if words:
        yield from ((word, "as it is" if word == _plain(now) else "") for word in words)
    elif isinstance(now, bool):
        yield from (("true", ""), ("false", ""))
    elif now is not None and not isinstance(now, (dict, list)) and not last:
        yield str(now), "as it is"


def _plain(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def files(text: str) -> Iterator[Candidate]:
    """Files and folders (with `/`) that begin with `text`; hidden ones when a dot is typed."""
    head, slash, tail = text.rpartition("/")
    folder = Path(os.path.expanduser(head + slash) or ".")
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(tail) and (tail.startswith(".") or not entry.name.startswith(".")):
            yield Candidate(f"{head}{slash}{entry.name}{'/' if entry.is_dir() else ''}")


def runs(text: str, *, root: str = "outputs", limit: int = 50) -> list[Candidate]:
    """Runs by their short names, the newest first, `latest`, and paths when a path is typed."""
    if "/" in text or text.startswith("."):
        return list(files(text))
    newest = record.all_runs(root)
    found = [Candidate("latest", "the newest run")] if newest else []
    found += [Candidate(record.run_name(run), run.parent.name) for run in newest[:limit]]
    pairs = dict.fromkeys(run.parent.name for run in newest if not record.STAMP.match(run.parent.name))
    found += [Candidate(pair, "the newest run of this pair") for pair in pairs]
    return [candidate for candidate in found if candidate.word.startswith(text)]
