"""List every setting with its default, accepted values and comment, from configs and signatures. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from tfcli.engine.config.arguments import Setting, settings
from tfcli.engine.config.configs import Configs, compose
from tfcli.errors import ConfigError, nearest

COMMENT = re.compile(r"(?:^|\s)#\s*(.*)$")
OPENERS = ("train", "probe", "bench")
"""The primary configs, each with settings of its own."""


class Key(NamedTuple):
    """One setting. `options` are the options of its group in which it stands so; none where it stands in all."""

    key: str
    default: Any
    takes: str
    choices: list[str]
    comment: str
    options: tuple[str, ...] = ()


def keys_of(configs: Configs, name: str | None = None) -> list[Key]:
    """Return the settings of a group (`model`), of one option of it (`model/bert`), or those that `train` begins with.

    Raises:
        ConfigError: there is no such group or option, with the nearest.
    """
    if name is None:
        return list(_settings_of(configs, [], "train"))
    group, _, option = name.partition("/")
    if group not in configs.groups():
        return _of_primary(configs, group)
    if option and configs.file(f"{group}/{option}") is None:
        known = configs.options(group)
        raise ConfigError(
            f"group `{group}` has no option `{option}`.{nearest(option, list(known))}  (`tfcli ls {group}` lists them)"
        )
    typed = [f"{group}={option}"] if option else []
    found = list(_settings_of(configs, typed, "train"))
    own = [key for key in found if key.key.split(".")[0] == group]
    return own or _mounted(configs, group, option or next(iter(configs.options(group)), ""))


def search(configs: Configs, word: str) -> list[Key]:
    """Return the settings of all options of all groups whose key, comment or choices contain `word`."""
    sought = word.lower()
    found: dict[tuple[str, str, str], tuple[Key, list[str]]] = {}
    everything = [*_primaries(configs)]
    for group in configs.groups():
        if group not in ("ablation", "experiment", "published", "prompts", "protocol", "suite"):
            everything += [
                (key, option) for option in configs.options(group) for key in _mounted(configs, group, option)
            ]
    for key, option in everything:
        text = f"{key.key} {key.comment} {' '.join(key.choices)}".lower()
        if sought in text:
            _, options = found.setdefault((key.key, key.takes, key.comment), (key, []))
            options += [option] if option else []
    return [key._replace(options=tuple(options)) for key, options in found.values()]


def _primaries(configs: Configs) -> Iterator[tuple[Key, str]]:
    for primary in OPENERS:
        top = {k: v for k, v in configs.load(primary).items() if k not in ("defaults", "@package", "without")}
        for key in _keys(settings(top), _comments(configs, primary)):
            yield key, ""


def _of_primary(configs: Configs, group: str) -> list[Key]:
    found = {key.key: key for key, _ in _primaries(configs) if key.key.split(".")[0] == group}
    if not found:
        known = [*configs.groups(), *dict.fromkeys(key.key.split(".")[0] for key, _ in _primaries(configs))]
        raise ConfigError(f"there is no group `{group}` of settings.{nearest(group, known)}  (`tfcli keys` shows all)")
    return list(found.values())


def _settings_of(configs: Configs, typed: list[str], primary: str) -> Iterator[Key]:
    """Yield the settings of a composed config, as they stand in it."""
    comments = _comments(configs, primary)
    tree = compose(configs, typed)
    top = configs.load(primary)
    chosen = {str(k): str(v) for e in top.get("defaults", []) if isinstance(e, dict) for k, v in e.items()}
    for group, option in {**chosen, **dict(word.split("=") for word in typed)}.items():
        comments |= _comments_of(configs, group, option)
    yield from _keys(settings(tree), comments)


def _mounted(configs: Configs, group: str, option: str) -> list[Key]:
    return list(_keys(settings(configs.mounted(group, option)), _comments_of(configs, group, option)))


def _keys(found: Iterator[Setting], comments: Mapping[str, str]) -> Iterator[Key]:
    for key, raw, argument, _ in found:
        if key.rpartition(".")[2].startswith("_"):
            continue
        kind = argument.kind if argument else None
        comment = comments.get(key) or (argument.help if argument else "")
        comment = "" if len(comment) < 4 else comment  # a letter of the docstring's shapes
        takes = kind.words() if (kind and not kind.any) or (kind and kind.choices) else ""
        yield Key(key, raw, takes, list(kind.values()) if kind else [], comment)


def _comments_of(configs: Configs, group: str, option: str) -> dict[str, str]:
    """Return the comments of one option of a group and of its bases, by the keys under which they are mounted."""
    group, _, package = group.partition("@")
    name = f"{group}/{option}"
    found: dict[str, str] = {}
    for entry in configs.load(name).get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            found |= _comments_of(configs, group, entry)
        elif isinstance(entry, dict):
            for key, inner in entry.items():
                if not str(key).startswith("override "):
                    found |= _comments_of(configs, str(key).lstrip("/"), str(inner))
    prefix = "" if configs.load(name).get("@package") == "_global_" else f"{(package or group).replace('/', '.')}."
    return found | {prefix + key: text for key, text in _comments(configs, name).items()}


def _comments(configs: Configs, name: str) -> dict[str, str]:
    """Return the comment that follows each value in a file, by its key."""
    path = configs.file(name)
    if path is None:
        return {}
    text = path.read_text(encoding="utf-8")
    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return {}
    found: dict[str, str] = {}
    _walk(root, "", text.splitlines(), found)
    return found


def _walk(node: Any, path: str, lines: list[str], found: dict[str, str]) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for name, value in node.value:
        key = f"{path}.{name.value}" if path else str(name.value)
        same = value.end_mark.line == name.end_mark.line
        rest = lines[name.end_mark.line][value.end_mark.column if same else name.end_mark.column :]
        whole = node.start_mark.line != node.end_mark.line or not path  # in `{a: 1, b: 2}  # …` it is said of all
        if whole and (comment := COMMENT.search(rest)):
            found[key] = comment[1].strip()
        _walk(value, key, lines, found)
