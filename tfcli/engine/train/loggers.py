"""Loggers of metrics: metrics.csv always; W&B and TensorBoard by choice."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from tfcli.engine.runs.disk_space import writing
from tfcli.engine.runs.folder import is_child
from tfcli.errors import ConfigError, install
from tfcli.files import write_atomic

HEADER = "epoch,step,name,value\n"


class MetricsFile(Logger):
    """Logger to metrics.csv: a line for each value, `epoch,step,name,value`, appended while a run goes on."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return self.path.parent.name

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        pass

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = dict(metrics)
        epoch = int(values.pop("epoch", 0))
        lines = "".join(f"{epoch},{step or 0},{name},{float(value):.9g}\n" for name, value in values.items())
        with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(lines if file.tell() else HEADER + lines)


def forget_after(path: Path, step: int) -> None:
    """Drop what was logged after the checkpoint from which a run goes on: it will be logged again."""
    if not path.exists():
        return
    kept: dict[tuple[str, str], str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        cells = line.split(",")
        if len(cells) == 4 and cells[1].isdigit() and int(cells[1]) <= step:  # neither the header nor a torn line
            kept[cells[1], cells[2]] = line
    write_atomic(path, HEADER + "".join(f"{line}\n" for line in kept.values()))


def make_loggers(
    config: dict[str, Any], folder: Path, *, name: str, run_config: dict[str, Any], resumed: bool, say: Any
) -> list[Logger]:
    """Return the loggers that `conf/logger` asks for.

    Args:
        config: the logger node.
        folder: of the run.
        name: shown by W&B.
        run_config: stored with the run.
        resumed: whether the run goes on.
        say: tells the user a line.

    Raises:
        ConfigError: W&B is required and there is no login, or TensorBoard is not installed.
    """
    loggers: list[Logger] = [MetricsFile(folder / "metrics.csv")]
    if config.get("tensorboard"):
        loggers.append(_tensorboard(folder))
    if _wants_wandb(config):
        from tfcli.engine.train import wandb_run

        logger = wandb_run.start(config["wandb"], folder, name=name, run_config=run_config, resumed=resumed, say=say)
        loggers += [logger] if logger else []
    return loggers


def _tensorboard(folder: Path) -> Logger:
    from pytorch_lightning.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(folder, name="tensorboard", version="")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"`logger=tensorboard` needs a package that is not installed: {install('tensorboard')}"
        ) from error


def check_logger(config: Mapping[str, Any]) -> None:
    """Refuse settings of the logger before anything is written.

    Raises:
        ConfigError: W&B would refuse them, or is required and there is no login.
    """
    if _wants_wandb(config):
        from tfcli.engine.train import wandb_run

        wandb_run.check(config["wandb"])


def _wants_wandb(config: Mapping[str, Any]) -> bool:
    """Return whether W&B logs, and this is the one rank that talks to it."""
    return bool(config.get("wandb")) and os.environ.get("WANDB_MODE") != "disabled" and not is_child()


def finish_loggers(loggers: list[Logger], figures: dict[str, float], images: list[Path], *, failed: bool) -> None:
    """Hand the final figures and pictures to W&B and close its run."""
    for logger in loggers:
        if hasattr(logger, "close"):
            logger.close(figures, images, failed=failed)


__all__ = ["MetricsFile", "check_logger", "finish_loggers", "make_loggers"]
