"""Log to one W&B run for each run folder; neither a dead network nor a failure of W&B stops the training."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import wandb
from pytorch_lightning.loggers import WandbLogger

from tfcli.engine.runs.folder import wandb_login
from tfcli.errors import ConfigError
from tfcli.files import write_atomic

START_S = 4
"""Seconds to wait for W&B's answer before a run is logged offline."""
FINISH_S = 30
"""Seconds that the end of a run waits for the last uploads; the rest lies in the run's folder."""
REFUSALS = (wandb.errors.Error, ValueError, TypeError)  # pydantic's errors are ValueErrors


def check(config: Mapping[str, Any]) -> None:
    """Refuse what W&B would refuse: its variables in the environment, the names in the config, a missing login.

    Raises:
        ConfigError: in one line, with the variable or the key.
    """
    for name, value in sorted(os.environ.items()):
        if name.startswith("WANDB_"):
            shown = name if "KEY" in name else f"{name}={value}"
            _accepted(f"`{shown}` in the environment", partial(_from_environment, {name: value}))
    for key, field in (("project", "project"), ("entity", "entity"), ("group", "run_group"), ("tags", "run_tags")):
        if config[key]:
            given: Any = tuple(config[key]) if key == "tags" else str(config[key])
            _accepted(f"`logger.wandb.{key}={config[key]}`", partial(_set, field, given))
    if config["mode"] == "required" and not wandb_login():
        raise ConfigError("`logger=wandb_required`: there is no W&B login. Run `wandb login`, or set WANDB_API_KEY.")


def _accepted(what: str, take: Callable[[wandb.Settings], object]) -> None:
    try:
        take(wandb.Settings())
    except REFUSALS as error:
        raise ConfigError(f"{what} is refused by W&B: {_reason(error)}. `logger=csv` turns W&B off.") from error


def _from_environment(values: dict[str, str], settings: wandb.Settings) -> None:
    settings.update_from_env_vars(values)


def _set(field: str, value: Any, settings: wandb.Settings) -> None:
    setattr(settings, field, value)


def _reason(error: Exception) -> str:
    if hasattr(error, "errors"):  # pydantic's: the first, without its address for further reading
        return str(error.errors()[0]["msg"])
    message = " ".join((str(error).splitlines() or [""])[0].split()).rstrip(".")
    return message.replace("<no message>", "") or "it refused the login or the request"


def run_id(folder: Path) -> str:
    """Return the W&B id of a run folder: its own, made by chance, kept in `wandb_id.txt`.

    A run made before there was that file keeps the id under which W&B has it.
    """
    file = folder / "wandb_id.txt"
    if not file.exists():
        earlier = sorted(folder.glob("wandb/*run-*/run-*.wandb"))
        agent = os.environ.get("WANDB_SWEEP_ID") and os.environ.get("WANDB_RUN_ID")  # W&B's agent has made the run
        known = earlier[-1].stem.removeprefix("run-") if earlier else agent
        write_atomic(file, f"{known or secrets.token_hex(5)}\n")
    return file.read_text(encoding="utf-8").strip()


def start(
    config: Mapping[str, Any], folder: Path, *, name: str, run_config: dict[str, Any], resumed: bool, say: Any
) -> WandbRun:
    """Begin or go on with the folder's W&B run: online where there is a login and an answer, else offline.

    Raises:
        ConfigError: W&B is required and does not answer, or refuses a setting.
    """
    asked, environment = str(config["mode"]), os.environ.get("WANDB_MODE")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it writes to stderr where the network is dead
    mode: Literal["online", "offline"]
    mode = "offline" if asked == "offline" or environment in ("offline", "dryrun") else "online"
    why = ""
    if mode == "online" and not wandb_login():
        mode, why = "offline", "no login"
    given = {
        "project": config["project"],
        "entity": config["entity"],
        "group": config["group"],
        "tags": list(config["tags"] or []),
        "name": config["name"] or name,
        "id": run_id(folder),
        "resume": "allow" if resumed else None,
        "dir": str(folder),
        "config": run_config,
        "settings": wandb.Settings(
            silent=True,
            console="off",
            init_timeout=START_S,
            finish_timeout=FINISH_S,
            finish_timeout_raises=True,
            x_disable_meta=True,
        ),
    }
    before = set(folder.glob("wandb/run-*"))
    try:
        run = wandb.init(mode=mode, **given)
    except (*REFUSALS, OSError) as error:
        if asked == "required" or mode == "offline":
            raise ConfigError(f"W&B cannot start: {_reason(error)}. `logger=csv` turns it off.") from error
        why = _reason(error)
        wandb.teardown()  # its service still holds the run's id
        for left in set(folder.glob("wandb/run-*")) - before:
            shutil.rmtree(left)
        run = wandb.init(mode="offline", **given)
    logger = WandbRun(experiment=run, save_dir=folder, say=say)
    if why:
        login = "`wandb login`, then " if why == "no login" else ""
        say(
            f"W&B: {why}, so this run is logged offline ({login}`{logger.sync}` uploads it; `logger=csv` turns W&B off)"
        )
    return logger


class WandbRun(WandbLogger):
    """Lightning's logger for W&B. When W&B fails in the middle of a run, it says so once and the run goes on without.

    Args:
        say: tells the user a line.
    """

    def __init__(self, *, say: Callable[[str], None], **given: Any):
        super().__init__(**given)
        self.say = say
        self.lost = False
        self.sync = f"wandb sync {shlex.quote(os.path.relpath(self.experiment.settings.sync_dir))}"

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._outlive(lambda: super(WandbRun, self).log_metrics(metrics, step))

    def log_hyperparams(self, params: Any) -> None:
        self._outlive(lambda: super(WandbRun, self).log_hyperparams(params))

    def close(self, figures: dict[str, float], images: list[Path], *, failed: bool) -> None:
        """Hand over the final figures and pictures and end W&B's run."""
        pictures = [path for path in images if path.suffix == ".png"]
        self._outlive(lambda: self.experiment.summary.update(figures))
        self._outlive(lambda: self.experiment.log({f"figures/{p.stem}": wandb.Image(str(p)) for p in pictures}))
        self._outlive(lambda: self.experiment.finish(exit_code=int(failed)))

    def _outlive(self, act: Callable[[], object]) -> None:
        if self.lost:
            return
        try:
            act()
        except (OSError, wandb.errors.Error) as error:
            self.lost = True
            self.say(
                f"W&B: not everything was uploaded ({_reason(error)}). `{self.sync}` uploads what it has in the run's "
                "folder; metrics.csv has all."
            )
