"""Build the parts that a checked config names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from tfcli.engine.config import targets
from tfcli.engine.config.settings import FACTS, NESTED_FACTS
from tfcli.errors import ConfigError, TfcliError


def plain(node: DictConfig) -> dict[str, Any]:
    """Return a config as plain values, every interpolation resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))


def _arguments(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _arguments(value) for key, value in node.items() if key not in (*NESTED_FACTS, "_bounds_")}
    return node


def build(node: Any, /, **parts: Any) -> Any:
    """Instantiate `node._target_`, its nested parts first, with `parts` added to its arguments.

    A constructor's ValueError (it checks its own values) and an unexpected argument become the user's error.

    Raises:
        ConfigError: with the constructor's own words, or before any is called: what is named is not ours to run.
    """
    config = plain(node) if OmegaConf.is_config(node) else dict(node)
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
        target = str(config.get("_target_", "")).rpartition(".")[2]
        if isinstance(cause, ValueError):
            raise ConfigError(str(cause)) from error
        if isinstance(cause, (TypeError, ImportError, AttributeError)):
            raise ConfigError(f"`{target}` cannot be built: {cause}") from error
        if cause is None:
            raise ConfigError(f"`{target}` cannot be built: {str(error).splitlines()[0]}") from error
        raise
