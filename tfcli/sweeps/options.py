"""Separate `launcher=` and `search=`, the settings of a sweep, from the settings of its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from omegaconf import OmegaConf

from tfcli.engine.config import validate
from tfcli.engine.config.build import plain
from tfcli.engine.config.compose import set_value
from tfcli.engine.config.configs import options, search_path
from tfcli.errors import ConfigError, nearest

GROUPS = ("launcher", "search")


def split(
    words: Sequence[str], config_dir: str | None = None, *, launcher: dict[str, Any] | None = None
) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    """Split the words of a command into the jobs' overrides and the sweep's own settings.

    Args:
        words: overrides.
        config_dir: a folder of configs that is looked in first.
        launcher: what `launcher.KEY=` changes where no other launcher is named; None: `launcher=local`.

    Returns:
        the jobs' own words, the launcher's values, and the search's (none: every combination is run).

    Raises:
        ConfigError: an unknown launcher, search, key or value.
    """
    rest = [word for word in words if not _group(word)]
    found: dict[str, dict[str, Any]] = {"launcher": dict(launcher or {}), "search": {}}
    for group in GROUPS:
        own = [word for word in words if _group(word) == group]
        names = [word.partition("=")[2] for word in own if word.partition("=")[0] == group]
        dotted = [word for word in own if word.partition("=")[0] != group]
        if names or (group == "launcher" and not launcher):
            found[group] = _load(group, (names or ["local"])[-1], config_dir)
        elif dotted and not found[group]:
            raise ConfigError(f"`{dotted[0]}` needs `{group}=`, for instance `{group}={_first(group, config_dir)}`.")
        config = OmegaConf.create({group: found[group]})
        for word in dotted:
            set_value(config, word)
        validate.check_values(plain(config))
        found[group] = plain(config)[group]
    return rest, found["launcher"], found["search"]


def _group(word: str) -> str | None:
    head = word.partition("=")[0].partition(".")[0].lstrip("+")
    return head if head in GROUPS and "=" in word else None


def _first(group: str, config_dir: str | None) -> str:
    return list(options(group, config_dir))[-1]


def _load(group: str, name: str, config_dir: str | None) -> dict[str, Any]:
    names = options(group, config_dir)
    if name not in names:
        raise ConfigError(f"there is no {group} `{name}`.{nearest(name, names)}  (there is {', '.join(names)})")
    file = next(f for root in search_path(config_dir) if (f := root / group / f"{name}.yaml").exists())
    return yaml.safe_load(file.read_text(encoding="utf-8"))
