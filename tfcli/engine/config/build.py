"""Build the parts that a checked config names."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from tfcli.engine.config import targets
from tfcli.engine.config.settings import FACTS, NESTED_FACTS
from tfcli.errors import ConfigError, TfcliError

CALLED = re.compile(r"Error in call to target '([\w.]+)'")
"""How Hydra's message names the innermost class or function that failed."""


def plain(node: DictConfig) -> dict[str, Any]:
    """Return a config as plain values, every interpolation resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))


def _arguments(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _arguments(value) for key, value in node.items() if key not in (*NESTED_FACTS, "_bounds_")}
    return node


def build(node: Any, /, **parts: Any) -> Any:
    """Instantiate `node._target_`, its nested parts first, with `parts` added to its arguments.

    A constructor's ValueError (it checks its own values) and an unexpected argument become the user's error. What else
    a constructor raises about its settings is named with them: a user's own class may state no bounds.

    Raises:
        ConfigError: with the constructor's own words, or before any is called: what is named is not ours to run.
    """
    if not isinstance(node, Mapping | DictConfig):
        raise ConfigError(f"a part is a node with the `_target_` of its class, but here it is `{node}`.")
    config = plain(node) if isinstance(node, DictConfig) else dict(node)
    config = _arguments({key: value for key, value in config.items() if key not in FACTS})
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a user's own model lies in the folder the command is given in
    targets.check_objects(config)
    try:
        return instantiate(config, **parts, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, TfcliError):
            raise cause from error
        if isinstance(cause, ValueError):
            raise ConfigError(str(cause)) from error
        first = next(iter(str(error if cause is None else cause).splitlines()), type(cause).__name__)
        called = CALLED.match(str(error))
        target = called[1] if called else str(config.get("_target_", ""))
        if cause is None or isinstance(cause, (TypeError, ImportError, AttributeError)):
            raise ConfigError(f"`{target.rpartition('.')[2]}` cannot be built: {first}") from error
        if isinstance(cause, (RuntimeError, AssertionError, ArithmeticError, LookupError)):
            raise ConfigError(f"`{target}` cannot be built{_with_settings(config, target)}: {first}") from error
        raise


def _with_settings(config: Any, target: str) -> str:
    """Return the single values of the node of a config that names `target`, as words of an error message."""
    if isinstance(config, list):
        return next(filter(None, (_with_settings(inner, target) for inner in config)), "")
    if not isinstance(config, dict):
        return ""
    if config.get("_target_") != target:
        return _with_settings(list(config.values()), target)
    single = {k: v for k, v in config.items() if not k.startswith("_") and not isinstance(v, dict)}
    return f" with {', '.join(f'{key}={value}' for key, value in single.items())}" if single else ""
