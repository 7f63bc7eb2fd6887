"""Check the paths that a command names before anything heavy is imported. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from tfcli.engine.runs.folder import check_writable
from tfcli.engine.runs.record import CHECKPOINT, all_runs, find_run, run_name
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
    if weights and weights != "random" and not Path(str(weights)).expanduser().exists():
        _check_named(str(weights), str(config.run.root))
    check_results(config)


def check_results(config: DictConfig) -> None:
    """Refuse a folder of results that cannot be made or written. Raises RunError."""
    given = Path(str(config.run.get("dir") or config.run.root)).expanduser()
    above = next(path for path in (given, *given.absolute().parents) if path.exists())
    if not above.is_dir():
        key = "run.dir" if config.run.get("dir") else "run.root"
        raise RunError(
            f"`{key}={given}`: `{above}` is a file, and results need a folder. Choose another with `{key}=`."
        )
    check_writable(given)


def _check_named(weights: str, root: str) -> None:
    """Refuse weights that are no file, where no run and no public checkpoint is called so."""
    if _is_path(weights):
        raise WeightsError(f"`model.weights={weights}`: there is no such file or folder.{_neighbour(weights)}")
    if "/" in weights:  # a name of the hub, or an address
        return
    try:
        find_run(weights, root=root, needs=CHECKPOINT)
    except RunError as error:
        if weights == "latest" or "may mean" in str(error):
            raise
        from tfcli.weights.hub import check_name

        check_name(weights, [name for run in all_runs(root) for name in (run_name(run), run.parent.name)])


def _check_data(config: DictConfig) -> None:
    data: Any = config.get("data") or {}
    root = data.get("root")
    if root is not None and not Path(str(root)).expanduser().exists():
        raise DataError(f"`data.root={root}`: there is no such file or folder.{_neighbour(root)}")
    if data.get("encoding") or data.get("separator"):
        from tfcli.data.sources.separated import How

        How.of(data)
    if root is None and data.get("download") is False:
        from tfcli.files import data_root

        if not data_root(None).exists():
            raise ConfigError(f"data `{data.name}` are your own: say where they lie, `data.root=PATH`.")


def _is_path(text: str) -> bool:
    if text.startswith(("http://", "https://")):
        return False
    return text.startswith((".", "/", "~")) or Path(text).suffix in FILES


def _neighbour(given: Any) -> str:
    """Return a hint at the existing name that is nearest to a missing one."""
    folder = Path(str(given)).expanduser().parent
    if not folder.is_dir():
        return f" Nor is there a folder `{folder}`."
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return ""
    return nearest(Path(str(given)).name, names)
