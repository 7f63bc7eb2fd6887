"""A run's config as it is kept in its folder, read back, and what of it a resumed run may change. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tfcli.engine.config import targets, validate
from tfcli.engine.config.build import plain
from tfcli.engine.config.compose import Composition, compose, set_value
from tfcli.engine.config.files import search_path
from tfcli.engine.runs.record import flatten, read_config, read_overrides
from tfcli.errors import ConfigError, RunError

RESUMABLE = (
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.patience",
    "trainer.save_every_",
    "trainer.log_every_",
    "trainer.test",
    "trainer.threads",
    "trainer.timeout_s",
    "logger.",
    "data.workers",
    "data.cache",
    "data.root",
    "data.download",
    "run.",
)
"""Keys that may change when a run is resumed; any other would make it another run."""


def saved_config(folder: Path) -> tuple[DictConfig, dict[str, str]]:
    """The config of a run and the options it was composed from.

    Raises:
        RunError: the folder has no config.
    """
    values = trusted_config(folder)
    if not values:
        raise RunError(f"`{folder}` is no run folder: it has no config.yaml.")
    choices = values.pop("choices")
    numerics = values.pop("numerics")
    config = OmegaConf.create(values)
    validate.check(config, choices=choices, picked=set())
    # The arithmetic that `auto` found the first time is part of what the run is.
    config.trainer.precision, config.trainer.compile = numerics["precision"], numerics["compile"]
    if "attn" in config and isinstance(config.attn.kernel, str):
        config.attn.kernel = numerics["kernel"]
    return config, choices


def trusted_config(folder: Path) -> dict[str, Any]:
    """Return a run's config as plain values, of which parts may be built (empty when there is none).

    Raises:
        ConfigError: it names code that a run folder may not bring, see `tfcli.engine.config.targets`.
    """
    values = read_config(folder)
    targets.check_saved(values, folder=folder, conf=search_path())
    return values


def trusted_overrides(folder: Path, *, name: str, config_dir: str | None) -> list[str]:
    """Return what was typed for a run, to be typed again; where the run was kept is left out.

    A task that the same words would not choose today is named.

    Raises:
        ConfigError: as `trusted_config`.
    """
    kept = [text for text in read_overrides(folder) if not text.startswith("run.dir=")]
    job = compose(name, kept, config_dir)
    targets.check_saved(plain(job.config), folder=folder, conf=search_path(config_dir))
    return [*_other_task(folder, job), *kept]


def _other_task(folder: Path, job: Composition) -> list[str]:
    """`task=` of a run, where its words are now given another by the columns of its data."""
    task = (read_config(folder).get("choices") or {}).get("task")
    return [f"task={task}"] if task and job.choices.get("task") not in (None, task) else []


def kept_tokenizer(folder: Path) -> Path | None:
    """The file of the tokenizer that a run was trained with, if its model has one."""
    file = folder / "tokenizer.json"
    return file if file.exists() else None


def apply_saved(config: DictConfig, overrides: list[str]) -> dict[str, tuple[Any, Any]]:
    """Change values of a saved config. Returns the keys that changed, old value and new."""
    changed: dict[str, tuple[Any, Any]] = {}
    for text in overrides:
        key, old, new = set_value(config, text)
        if old != new:
            changed[key] = (old, new)
    return changed


def merged(before: list[str], after: list[str]) -> list[str]:
    """Return the overrides of both, those of `after` in place of earlier ones of the same key."""
    keys = {text.lstrip("+").partition("=")[0] for text in after}
    return [text for text in before if text.lstrip("+").partition("=")[0] not in keys] + after


def recomposed(run: Path, config: DictConfig, overrides: list[str]) -> None:
    """Apply overrides to a saved config with all that follows from them.

    A saved config is resolved: `data.test_split=comp` would not reach the source that once referred to it. So the run
    is composed again with and without the overrides, and what differs is taken over.
    """
    typed = read_overrides(run)
    try:
        typed = [*_other_task(run, compose("train", typed)), *typed]
        before, after = (flatten(plain(compose("train", [*typed, *more]).config)) for more in ([], overrides))
    except ConfigError:  # composed by other configs than are here now
        before, after = {}, {}
    apply_saved(config, [o for o in overrides if o.partition("=")[0] not in after])
    for key, value in after.items():
        if before.get(key) != value:
            OmegaConf.update(config, key, value)
