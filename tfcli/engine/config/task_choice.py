"""Choose the task of a command that names none by the columns of its data. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from tfcli.engine.config.configs import Configs
from tfcli.engine.config.offers import columns_of, families_for, fitting, tasks_of
from tfcli.errors import ConfigError


def task_of_data(
    config: DictConfig,
    choices: Mapping[str, str],
    chosen: Sequence[Override],
    single: Sequence[Override],
    configs: Configs,
) -> str | None:
    """Return the task that the columns of the data ask for, where the family's own would leave some of them unused.

    A task that the command or its experiment names stays as it is: None.

    Args:
        config: composed from the options that were `chosen`, `choices` in words; no value is set yet.
        single: the settings of single values, of which a table's columns matter here.

    Raises:
        ConfigError: several tasks would fit, and the command must say which; or none does.
    """
    if "task" not in config or "task" in config.get("without", []) or "columns" not in config.get("data", {}):
        return None
    picked = {o.key_or_group for o in chosen}
    experiment = choices.get("experiment")
    named = "task" in picked or "task" in dict(configs.overrides(f"experiment/{experiment}"))
    if named or (experiment and not picked & {"model", "data"}):
        return None
    columns = _columns(config, single)
    model = cast(dict[str, Any], OmegaConf.to_container(config.model, resolve=False))
    if not columns or not tasks_of(model, configs):
        return None  # what is wrong is said where the parts are checked
    fits = fitting(model, columns, configs)
    if choices["task"] in fits:
        return None
    there = f"data `{choices['data']}` ({', '.join(columns)})"
    if not fits:
        others = families_for(columns, configs)
        raise ConfigError(
            f"model `{choices['model']}` offers no task for {there}; its tasks are "
            f"{', '.join(tasks_of(model, configs))}. Models for these data: {', '.join(others) or 'none yet'}."
        )
    if len(fits) > 1:
        listed = " or ".join(f"task={name}" for name in fits)
        raise ConfigError(f"model `{choices['model']}` can do several tasks with {there}: say {listed}.")
    return fits[0]


def _columns(config: DictConfig, single: Sequence[Override]) -> list[str]:
    """Return the columns that the data will have, those of a table as the command names them."""
    changed = OmegaConf.create({"data": config.data})
    for override in single:
        if override.key_or_group.startswith("data.columns") and not override.is_delete():
            OmegaConf.update(changed, override.key_or_group, override.value(), merge=False, force_add=True)
    return columns_of(changed.data)


def task_note(config: DictConfig, choices: Mapping[str, str]) -> str:
    """Return the line that names the chosen task and the reason."""
    needs = " and ".join(config.task.needs) if len(config.task.needs) < 3 else ", ".join(config.task.needs)
    return f"task {choices['task']}: data {choices['data']} has {needs} (task=NAME chooses another)"
