"""Take what a checkpoint states into the config before the model is built; find a model's tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf

from tfcli.engine.config.build import plain
from tfcli.engine.loading import from_run
from tfcli.engine.runs.record import flatten
from tfcli.errors import WeightsError
from tfcli.text import tokenizer as tokenizers
from tfcli.text.tokenizer import Tokenizer
from tfcli.weights.clip_tokenizer import merges_file

if TYPE_CHECKING:
    from tfcli.weights.blueprint import Blueprint

CLIP_CONTEXT = 77
"""Tokens of a row, for a text tower that does not say."""


def adopt_weights(config: DictConfig, typed: Collection[str]) -> tuple[Blueprint | None, Path | None, list[str]]:
    """Take over size and preprocessing of the run or the checkpoint that `model.weights` names, where it states them.

    Args:
        config: changed in place: `model`, and of `data` how images are seen, unless it was typed.
        typed: keys that the user gave, or the experiment.

    Returns:
        What a checkpoint states (None for a run, or where it states nothing), the tokenizer that stands beside the
        weights, and lines for the user.

    Raises:
        WeightsError: the checkpoint cannot be found or opened, is of a kind that is not read, or lacks the tokenizer
            that its ids are of.
    """
    run = from_run.find_source_run(config)
    if run is not None:
        return None, *from_run.adopt_run(config, run, typed)
    from tfcli.weights.blueprint import VOCABULARIES

    ours = cast(dict[str, Any], OmegaConf.to_container(config.model, resolve=False))
    found = read_blueprint(config, typed)
    own = (config.model.get("tokenizer") or {}).get("path")
    if not (found and found.model) and "vocab_size" in config.model and not own:
        raise WeightsError(
            f"`{config.model.weights}` is no run and no published format of this model: it says neither its sizes "
            "nor its tokenizer. Name the run that wrote it, or its sizes and model.tokenizer.path=FOLDER."
        )
    if found is None:
        return None, None, _adopt_preprocessing(config, {}, "", typed)
    kept, changed = _compare_with_typed(config, ours, found, typed)
    typed = {*typed, *(f"model.{name}" for name in kept)}
    OmegaConf.set_struct(config, False)
    config.model = found.apply(ours, typed)
    OmegaConf.set_struct(config, True)
    images = _adopt_preprocessing(config, found.data, found.images, typed)
    _adopt_search(config, found.task, typed)
    own = config.model.get("tokenizer", {}).get("path")
    if "vocab_size" in found.model and not (own or found.tokenizer):
        raise WeightsError(
            f"`{config.model.weights}` has no tokenizer beside it (looked for {', '.join(VOCABULARIES)}), and its ids "
            "mean nothing without: copy it there, or name it with model.tokenizer.path=FOLDER."
        )
    sized = f"the model is sized as its weights are ({found.path.name})" + (
        f": {', '.join(changed)}" if changed else ""
    )
    notes = [*([sized] if found.model else []), *kept.values(), *found.notes, *images]
    return found, None if own else found.tokenizer, notes


def _compare_with_typed(
    config: DictConfig, ours: dict[str, Any], found: Blueprint, typed: Collection[str]
) -> tuple[dict[str, str], list[str]]:
    """Compare what a checkpoint states with the model's settings.

    Returns:
        For each setting that stays as it was typed, what to say of it; and what else changes.

    Raises:
        WeightsError: a value was typed with which the tensors do not fit.
    """
    kept: dict[str, str] = {}
    changed: list[str] = []
    for name, value in flatten(found.model).items():
        before = OmegaConf.select(config.model, name)
        if before == value or str(value).startswith("${"):
            continue
        reference = re.fullmatch(r"\$\{([\w.]+)\}", str(ours.get(name)))
        keys = [f"model.{name}", *([reference[1]] if reference else [])]
        key = next((key for key in keys if key in typed), None)
        if key is None:
            shown = "." not in name and before is not None and value is not None
            changed += [f"{name} {before} -> {value}"] if shown else []
        elif name.rpartition(".")[2] in found.fixed and before is not None:
            raise WeightsError(
                f"`{key}={before}` was typed, but the weights in `{found.path}` are made for {value}: leave it out."
            )
        else:
            kept[name] = f"`{key}` stays {before}, as it was typed; the weights were trained with {value}"
    return kept, changed


def _adopt_search(config: DictConfig, found: dict[str, Any], typed: Collection[str]) -> None:
    """Take over the settings of the search for outputs (beams, lengths), but for what was typed."""
    if not {"beams", "search"} <= set(config.get("task") or {}):  # frozen verbs have no task
        return
    for key, value in found.items():
        rules = {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
        for name, one in rules.items():
            if f"task.{name}" not in typed:
                OmegaConf.update(config.task, name, one)


def _adopt_preprocessing(config: DictConfig, stated: dict[str, Any], source: str, typed: Collection[str]) -> list[str]:
    """Take over how images are preprocessed, but for what was typed. Return a line that says all of it."""
    from tfcli.data.images.resize import SETTINGS, describe

    if any(key not in config.data for key in SETTINGS):  # no images, or a data module of another kind
        return []
    own = []
    for key, value in stated.items():
        if f"data.{key}" not in typed:
            config.data[key] = value
        elif config.data[key] != value:
            own.append(f"data.{key}")
    source = f"as {source} states" if source else "as usual, for no file states it"
    but = f", but for {', '.join(own)}, which you gave" if own else ""
    return [f"images are seen {source}{but}: {describe({key: config.data[key] for key in SETTINGS})}"]


def read_blueprint(config: DictConfig, typed: Collection[str] = ()) -> Blueprint | None:
    """Return what the checkpoint that `model.weights` names says of its model, its images and its classes.

    Args:
        typed: keys that were given; where they say all of how images are seen, the checkpoint is not asked for that.

    Raises:
        WeightsError: as `tfcli.weights.blueprint.blueprint`.
    """
    from tfcli.weights.blueprint import blueprint
    from tfcli.weights.preprocessing import TYPED

    target, weights = str(config.model._target_), str(config.model.weights)
    seen = "image_size" not in config.data or {f"data.{key}" for key in TYPED} <= set(typed)
    return blueprint(target, weights, plain(config.model), seen=seen)


def make_tokenizer(config: DictConfig, path: Path | None, texts: Callable[[], list[str]] = list) -> Tokenizer | None:
    """Return the tokenizer of a model, of the kind that `model.tokenizer` says; None for a model without texts.

    A text tower (`model.text`) reads rows of its context, any other model as many tokens as there are.

    Args:
        config: the size of the vocabulary is filled in where it is left open.
        path: a tokenizer that exists already (of a run, of a checkpoint).
        texts: what a new one is made from.

    Raises:
        ConfigError: the model has embeddings for another number of tokens.
    """
    wanted = config.model.get("tokenizer")
    if not wanted:
        return None
    tower = config.model.get("text")
    context = (tower.get("context") or CLIP_CONTEXT) if tower else None
    if path is not None:
        tokenizer = tokenizers.load(path, context=context)
    else:
        settings = plain(wanted)
        if settings.get("kind") == "clip" and not settings.get("path"):
            settings["path"] = merges_file()
        tokenizer = tokenizers.make(texts=texts, context=context, **settings)
    reader = tower or config.model
    if reader.vocab_size is None:
        reader.vocab_size = tokenizer.vocab_size
    if not tower or reader.vocab_size < tokenizer.vocab_size:  # a tower may have been given more rows than are used
        tokenizers.check_matches(tokenizer, vocab_size=reader.vocab_size)
    return tokenizer
