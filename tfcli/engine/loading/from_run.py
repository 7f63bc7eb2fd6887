"""`model.weights=RUN`: a run goes on from what another one of ours has learned. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from tfcli.engine.runs.folder import RUN_DIR, is_child
from tfcli.engine.runs.record import CHECKPOINT, find_run, read_config, run_name
from tfcli.engine.runs.saved_config import saved_tokenizer, trusted_config
from tfcli.errors import ConfigError, RunError
from tfcli.text.tokenizer import check_matches, load

OWN = ("weights", "head", "num_classes", "image_size", "dropout", "attention_dropout", "drop_path")
"""Settings of a model that a new run states for itself: its task, its data, how it is trained."""


def resolve_run(config: DictConfig, overrides: list[str]) -> None:
    """Replace the name of a run by its path: what `latest` is changes with the run that is about to begin.

    Args:
        config: changed in place; one whose `model.weights` is no run is left as it is.
        overrides: likewise, so that the run can be run again.

    Raises:
        RunError: there is no such run, more than one, or it has no checkpoint.
        ConfigError: it is of another family.
    """
    if not config.model.get("weights"):
        return
    if is_child() and RUN_DIR in os.environ:
        config.model.weights = read_config(Path(os.environ[RUN_DIR]))["model"]["weights"]
        return
    run = find_source_run(config)
    if run is None:
        return
    _check_family(config, run)
    if not Path(config.model.weights).is_file():
        config.model.weights = str(run.resolve())
    overrides[:] = [f"model.weights={config.model.weights}" if o.startswith("model.weights=") else o for o in overrides]


def find_source_run(config: DictConfig) -> Path | None:
    """Return the run that `model.weights` means: `latest`, a name or a path, of its folder or of a checkpoint in it.

    Returns:
        None for weights from elsewhere.

    Raises:
        RunError: `latest` is asked for and there is none, or a name may mean several.
    """
    weights = str(config.model.weights)
    path = Path(weights).expanduser()
    if path.exists() and weights != "latest":
        return next((p for p in (path, *path.parents[:2]) if (p / "config.yaml").is_file()), None)
    try:
        return find_run(weights, root=config.run.root, needs=CHECKPOINT)
    except RunError as error:
        if weights == "latest" or "may mean" in str(error):
            raise
        return None


def adopt_run(config: DictConfig, run: Path, typed: Collection[str]) -> tuple[Path | None, list[str]]:
    """Take over sizes, positions, attention and tokenizer of a run; its head is left to the task.

    Args:
        config: changed in place, but for what was typed.
        run: its folder.
        typed: keys that the user gave.

    Returns:
        The run's tokenizer, if its model has one, and what to say.

    Raises:
        RunError: it has no checkpoint.
        ConfigError: it is of another family, or speaks another vocabulary than the one asked for.
    """
    saved = _check_family(config, run)
    model = cast(dict[str, Any], OmegaConf.to_container(config.model, resolve=False))
    tokenizer = saved_tokenizer(run)
    if tokenizer is not None:
        _same_vocabulary(config, saved["model"], tokenizer, typed)
    OmegaConf.set_struct(config, False)
    for group in ("attn", "pos"):
        if group in saved and group in config and not _is_given(group, typed):
            config[group] = saved[group]
    config.model = _merged(model, saved["model"], "model", typed)
    OmegaConf.set_struct(config, True)
    kept = [key for key in sorted(typed) if _differs(config, saved, key)]
    for key in ("mean", "std"):
        if f"data.{key}" not in typed and key in config.data and key in saved.get("data", {}):
            config.data[key] = saved["data"][key]
    line = f"the model is the one of run {run_name(run)}"
    return tokenizer, [line + (f", but for {', '.join(kept)}" if kept else "")]


def _check_family(config: DictConfig, run: Path) -> dict[str, Any]:
    """Return the config of a run; refuse one without a checkpoint, or of another family than the model."""
    saved = trusted_config(run)
    if not any((run / "checkpoints" / f"{name}.ckpt").is_file() for name in ("best", "last")):
        raise RunError(f"`model.weights`: the run `{run}` has no checkpoint; it ended before its first one.")
    ours, theirs = str(config.model._target_), str(saved.get("model", {}).get("_target_"))
    if ours != theirs:
        name = saved.get("choices", {}).get("model")
        raise ConfigError(
            f"`model.weights`: the run {run_name(run)} is of {theirs.rpartition('.')[2]} (`model={name}`), this model "
            f"is of {ours.rpartition('.')[2]}; weights pass only inside a family."
        )
    return saved


def _same_vocabulary(config: DictConfig, saved: dict[str, Any], tokenizer: Path, typed: Collection[str]) -> None:
    """Refuse a tokenizer that was typed and is not the run's."""
    asked: Any = config.model.get("tokenizer") or {}
    theirs = saved.get("tokenizer") or {}
    for key in ("kind", "vocab_size", "lower"):
        if f"model.tokenizer.{key}" in typed and asked.get(key) != theirs.get(key):
            raise ConfigError(
                f"`model.tokenizer.{key}` is {asked.get(key)}, but the run's tokenizer has {theirs.get(key)}, and its "
                "weights know no other. Leave it out."
            )
    if "model.tokenizer.path" in typed and asked.get("path"):
        own = load(tokenizer)
        check_matches(load(Path(asked["path"])), vocab_size=own.vocab_size, digest=own.digest)


def _merged(ours: Any, theirs: dict[str, Any], path: str, typed: Collection[str]) -> dict[str, Any]:
    """Return the run's settings in place of ours, but for those that the new run states itself."""
    merged = dict(ours)
    for name, value in theirs.items():
        key, old = f"{path}.{name}", ours.get(name)
        if name in OWN or key in typed or old in ("${attn}", "${pos}"):
            continue
        merged[name] = _merged(old, value, key, typed) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _is_given(group: str, typed: Collection[str]) -> bool:
    return any(key == group or key.startswith(f"{group}.") for key in typed)


def _differs(config: DictConfig, saved: dict[str, Any], key: str) -> bool:
    """Tell whether something about the model was typed that the run has otherwise."""
    if not key.startswith(("model.", "attn", "pos")) or key.rpartition(".")[2] in OWN:
        return False
    theirs = OmegaConf.select(OmegaConf.create(saved), key)
    ours = OmegaConf.select(config, key)
    plain = [OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for v in (ours, theirs)]
    return plain[0] != plain[1]
