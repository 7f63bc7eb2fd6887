"""Paths that a command names, looked at before anything heavy is imported. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from tfcli.errors import ConfigError, DataError, RunError, WeightsError, nearest

FILES = (".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".npz", ".tar")
"""Endings by which weights are a file, where a name of the hub has none."""


def check_paths(config: DictConfig) -> None:
    """Refuse data and weights that are not where the command says, and results where nothing can be written.

    Raises:
        DataError, WeightsError, RunError: with the nearest name that is there.
    """
    _check_data(config)
    weights = config.get("model", {}).get("weights")
    if weights and _is_path(str(weights)) and not Path(str(weights)).expanduser().exists():
        raise WeightsError(f"`model.weights={weights}`: there is no such file or folder.{_neighbour(weights)}")
    given = Path(str(config.run.get("dir") or config.run.root)).expanduser()
    above = next(path for path in (given, *given.absolute().parents) if path.exists())
    if not above.is_dir():
        key = "run.dir" if config.run.get("dir") else "run.root"
        raise RunError(
            f"`{key}={given}`: `{above}` is a file, and results need a folder. Choose another with `{key}=`."
        )


def _check_data(config: DictConfig) -> None:
    data: Any = config.get("data") or {}
    root = data.get("root")
    if root is not None and not Path(str(root)).expanduser().exists():
        raise DataError(f"`data.root={root}`: there is no such file or folder.{_neighbour(root)}")
    if data.get("encoding") or data.get("separator"):
        from tfcli.data.sources.separated import How

        How.of(data)
    if root is None and data.get("download") is False:
        from tfcli.data.common.paths import data_root

        if not data_root(None).exists():
            raise ConfigError(f"data `{data.name}` are your own: say where they lie, `data.root=PATH`.")


def _is_path(text: str) -> bool:
    if text.startswith(("http://", "https://")):
        return False
    return text.startswith((".", "/", "~")) or Path(text).suffix in FILES


def _neighbour(given: Any) -> str:
    """The name beside it that it may be, for a message."""
    folder = Path(str(given)).expanduser().parent
    if not folder.is_dir():
        return f" Nor is there a folder `{folder}`."
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return ""
    return nearest(Path(str(given)).name, names)
