"""Where metrics go: metrics.csv always; W&B and TensorBoard by choice."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from tfcli.engine.session import wandb_login
from tfcli.errors import ConfigError
from tfcli.files import write_atomic

HEADER = "epoch,step,name,value\n"


class MetricsFile(Logger):
    """metrics.csv: one line a value, `epoch,step,name,value`; only appended to while a run goes on."""

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
        start = "" if self.path.exists() and self.path.stat().st_size else HEADER
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(start + lines)


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
    """The loggers that `conf/logger` asks for.

    Args:
        config: the logger node.
        folder: of the run.
        name: shown by W&B; the run's id there is the folder's name, so that a resumed run goes on in it.
        run_config: stored with the run.
        resumed: whether the run goes on.
        say: tells the user a line.

    Raises:
        ConfigError: W&B is required and there is no login, or TensorBoard is not installed.
    """
    loggers: list[Logger] = [MetricsFile(folder / "metrics.csv")]
    if config.get("tensorboard"):
        loggers.append(_tensorboard(folder))
    if config.get("wandb"):
        logger = _wandb(config["wandb"], folder, name=name, run_config=run_config, resumed=resumed, say=say)
        loggers += [logger] if logger else []
    return loggers


def _tensorboard(folder: Path) -> Logger:
    from pytorch_lightning.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(folder, name="tensorboard", version="")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "`logger=tensorboard` needs a package that is not installed: pip install tensorboard"
        ) from error


@rank_zero_only
def _wandb(
    config: dict[str, Any], folder: Path, *, name: str, run_config: dict[str, Any], resumed: bool, say: Any
) -> Logger | None:
    """One W&B run for the whole training, made by rank 0 only."""
    asked = str(config["mode"])
    if os.environ.get("WANDB_MODE") == "disabled":
        return None
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_DIR", str(folder))
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    mode: Literal["online", "offline"]
    mode = "offline" if asked == "offline" or os.environ.get("WANDB_MODE") == "offline" else "online"
    login = wandb_login()
    if mode == "online" and not login:
        if asked == "required":
            raise ConfigError(
                "`logger=wandb_required`: there is no W&B login. Run `wandb login`, or set WANDB_API_KEY."
            )
        say(
            "W&B: no login, so this run is logged offline "
            "(`wandb login` then `wandb sync` uploads it; `logger=csv` turns W&B off)"
        )
        mode = "offline"
    settings = wandb.Settings(silent=True, console="off", init_timeout=5, x_disable_meta=True)
    given = {
        "project": config["project"],
        "entity": config["entity"],
        "group": config["group"],
        "tags": list(config["tags"] or []),
        "name": config["name"] or name,
        "id": folder.name,
        "resume": "allow" if resumed else None,
        "dir": str(folder),
        "config": run_config,
        "settings": settings,
    }
    try:
        run = wandb.init(mode=mode, **given)
    except (wandb.errors.CommError, wandb.errors.UsageError) as error:
        if asked == "required":
            raise ConfigError(f"`logger=wandb_required`: W&B does not answer: {error}") from error
        say(f"W&B does not answer ({str(error).splitlines()[0]}): this run is logged offline")
        run = wandb.init(mode="offline", **given)
    return WandbLogger(experiment=run, save_dir=folder)


def finish(loggers: list[Logger], figures: dict[str, float], images: list[Path], *, failed: bool) -> None:
    """Hand the final figures and pictures to W&B and close its run."""
    from pytorch_lightning.loggers import WandbLogger

    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            run = logger.experiment
            run.summary.update(figures)
            run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in images if path.suffix == ".png"})
            run.finish(exit_code=int(failed))


__all__ = ["MetricsFile", "finish", "make_loggers"]
