"""Find the heads of a probe in its config: nodes that name a class, of `conf/probe.yaml` or `conf/head/`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcli.engine.config.configs import Configs

FROZEN_VERBS = ("probe", "zeroshot", "linear", "knn")
"""Verbs that start from `conf/probe.yaml`: all heads, or one alone."""


def heads_of(config: Mapping[str, Any], groups: Collection[str] = ()) -> list[str]:
    """Return the names of the heads in a config: top-level nodes with `_target_` that are no part of another group.

    Args:
        groups: names of the groups that the config was composed of.
    """
    nodes = [(str(name), node) for name, node in config.items() if name not in groups]
    return [name for name, node in nodes if isinstance(node, Mapping) and "_target_" in node]


def known_heads(configs: Configs) -> list[str]:
    """Return the names of all heads that `heads=` may name: those of `conf/probe.yaml`, then one a file."""
    return list(dict.fromkeys([*heads_of(configs.load("probe")), *configs.options("head")]))


def mounted_heads(text: str, folders: Sequence[Path]) -> list[str]:
    """Return the overrides that put the heads of an override `heads=[...]` which are files into the config."""
    key, _, value = text.partition("=")
    own = Configs(folders).options("head") if key == "heads" else {}
    return [f"+head@{name}={name}" for name in value.strip("[]").replace(" ", "").split(",") if name in own]
