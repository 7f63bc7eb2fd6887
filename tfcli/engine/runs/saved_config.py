"""Read back the config of a run's folder, and decide what a resumed run may change. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tfcli.engine.config import targets, validate
from tfcli.engine.config.build import plain
from tfcli.engine.config.compose import Composition, compose, set_value
from tfcli.engine.config.configs import search_path
from tfcli.engine.config.offers import has_method
from tfcli.engine.runs.record import flatten, read_config, read_overrides, run_name
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
    """Return the config of a run and the options it was composed from.

    Raises:
        RunError: the folder has no config, or the run trained nothing.
    """
    values = trusted_config(folder)
    if not values:
        raise RunError(f"`{folder}` is no run folder: it has no config.yaml.")
    if "numerics" not in values:
        raise RunError(f"`{folder}` was not trained: nothing of it can be resumed or used. `tfcli rerun` repeats it.")
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
    """Return `task=` of a run whose words would choose another task today, by the columns of its data."""
    task = (read_config(folder).get("choices") or {}).get("task")
    return [f"task={task}"] if task and job.choices.get("task") not in (None, task) else []


def saved_tokenizer(folder: Path) -> Path | None:
    """Return the file of the tokenizer that a run was trained with, if its model has one."""
    file = folder / "tokenizer.json"
    return file if file.exists() else None


def find_checkpoint(run: Path, which: str) -> Path:
    """Return the file of a run's checkpoint: `which` is best or last.

    In place of `best` stands `average` where a run has averaged its last epochs; `best` falls back to `last`, which is
    all there is without validation.

    Raises:
        RunError: there is no checkpoint.
    """
    for name in dict.fromkeys((*(("average",) if which == "best" else ()), which, "last")):
        if (run / "checkpoints" / f"{name}.ckpt").exists():
            return run / "checkpoints" / f"{name}.ckpt"
    raise RunError(f"`{run}` has no checkpoint yet.")


def config_for_this_machine(run: Path, overrides: list[str]) -> tuple[DictConfig, dict[str, str]]:
    """Return a run's config for use on one process or the GPUs that are here, however the run was trained.

    Raises:
        ConfigError: an override is wrong, or chooses another model, data set or part than the run has.
        RunError: the folder has no config.
    """
    config, choices = saved_config(run)
    for name, value in (("accelerator", "auto"), ("strategy", "auto"), ("devices", "auto"), ("num_nodes", 1)):
        OmegaConf.update(config.trainer, name, value)
    if "teacher" in config.task:
        config.task.teacher = None  # it has nothing to say any more
    if overrides:
        _recompose(run, config, choices, overrides)
    return config, choices


def resumed_config(folder: Path, overrides: list[str]) -> tuple[DictConfig, dict[str, str], dict[str, tuple[Any, Any]]]:
    """Return the config of a run that is resumed, its choices, and what changes: old value and new of each key.

    Raises:
        ConfigError: an override is wrong, or would make it another run.
        RunError: the folder has no config.
    """
    config, choices = saved_config(folder)
    changed = change_saved(config, overrides)
    other = [f"{k}: {old} -> {new}" for k, (old, new) in changed.items() if not k.startswith(RESUMABLE)]
    if other:
        raise ConfigError(
            f"a resumed run keeps its config, but these would change: {'; '.join(other)}. "
            f"`tfcli rerun {folder} {' '.join(overrides)}` makes a new run."
        )
    return config, choices, changed


def change_saved(config: DictConfig, overrides: list[str]) -> dict[str, tuple[Any, Any]]:
    """Change values of a saved config; return the keys that changed, with old and new value."""
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


def _recompose(run: Path, config: DictConfig, choices: dict[str, str], overrides: list[str]) -> None:
    """Apply overrides to a saved config with all that follows from them.

    A saved config is resolved: `data.test_split=comp` would not reach the source that once referred to it. So the run
    is composed again with and without the overrides, and what differs is taken over; but not the size of images that a
    trained model was built for, which reads others as well.

    Raises:
        ConfigError: an override is wrong, chooses another option of a group, or the model cannot read such images.
    """
    _check_image_size(run, config, overrides)
    try:
        typed = read_overrides(run)
        job = compose("train", typed)
        if other := _other_task(run, job):
            typed = [*other, *typed]
            job = compose("train", typed)
    except ConfigError:  # composed by other configs than are here now
        change_saved(config, overrides)
        return
    before, after = (flatten(plain(composed.config)) for composed in (job, compose("train", [*typed, *overrides])))
    for text in overrides:
        group, _, option = text.partition("=")
        if group in choices and option != choices[group]:
            raise ConfigError(
                f"`{text}`: a run is used with the {group} that it was trained with, `{choices[group]}`; "
                f"`tfcli rerun {run_name(run)} {text}` trains it anew."
            )
    change_saved(config, [o for o in overrides if (key := o.partition("=")[0]) not in after and key not in choices])
    for key, value in after.items():
        built_for = key.startswith("model.") and key.endswith(".image_size")
        if before.get(key) != value and not built_for:
            OmegaConf.update(config, key, value)


def _check_image_size(run: Path, config: DictConfig, overrides: list[str]) -> None:
    """Refuse another image size for a trained model to be built for, and images that its patches do not divide."""
    for key, _, text in (override.partition("=") for override in overrides):
        if key.startswith("model.") and key.endswith(".image_size") and text != str(OmegaConf.select(config, key)):
            one_size = has_method(str(config.model._target_), "check_image_size")
            raise ConfigError(
                f"`{key}={text}`: the model of {run_name(run)} is built for {OmegaConf.select(config, key)}, which its "
                "weights fit; "
                + (
                    f"`tfcli rerun {run_name(run)} data.image_size={text}` trains one of that size."
                    if one_size
                    else f"`data.image_size={text}` lets it read images of that size."
                )
            )
        for name, patch in flatten(plain(config)).items() if key == "data.image_size" and text.isdecimal() else ():
            if name.startswith("model.") and name.endswith(".patch_size") and patch and int(text) % patch:
                near = [size for size in (int(text) // patch * patch, -(-int(text) // patch) * patch) if size]
                raise ConfigError(
                    f"`data.image_size` must be a multiple of {patch}, the `{name}` that {run_name(run)} was trained "
                    f"with, but is {text}. Nearest: {', '.join(map(str, near))}."
                )
