"""A classifier of public weights, and whose names its outputs have: the checkpoint's, a data set's or ImageNet's."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from tfcli.data.module import DataModule
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.engine.loading import from_run
from tfcli.engine.loading.load_model import Loaded, find_model
from tfcli.engine.runs.terminal import say
from tfcli.errors import ConfigError
from tfcli.weights.classes import agree, imagenet, listed


def run_of(overrides: list[str], config_dir: str | None) -> Path | None:
    """Return the run of ours that `model.weights=` names, if it names one."""
    config = compose("train", overrides, config_dir).config
    return from_run.find_source_run(config) if config.model.get("weights") else None


def classifier(overrides: list[str], config_dir: str | None = None) -> Loaded:
    """Load the classifier that `overrides` name. Without `data=`, no data set is looked for.

    Raises:
        ConfigError: no weights are named, the model is no classifier of images, the checkpoint knows another number of
            classes than the data set, or nobody names its classes and they are not as many as ImageNet's.
        WeightsError: the checkpoint cannot be found or opened, is of another model, or has no trained head.
    """
    named = any(text.startswith("data=") for text in overrides)
    job = compose("train", overrides, config_dir)
    weights = job.config.model.get("weights")
    if not weights:
        raise ConfigError("`tfcli predict` needs a run, or `model.weights=NAME or PATH`.")
    _takes_images_alone(job.config, job.choices["model"])
    if not named:
        job = compose("train", ["data=folder", *overrides], config_dir)  # photographs, of which none is read
    found = find_model(None, job=job)
    found.overrides = overrides
    for line in found.notes:
        say(line)
    theirs = found.classes
    guessed = not named and not theirs
    if named:
        data: DataModule = build(found.config.data)
        data.prepare()
        _compare(theirs, data.classes, found.choices["data"], weights)
        found.classes = theirs or data.classes
    elif guessed:
        found.classes = list(imagenet())
    OmegaConf.update(found.config, "data.num_classes", len(found.classes))
    loaded = found.build(num_classes=len(found.classes))
    if guessed and (count := loaded.report and loaded.report.outputs):
        outputs = f"{count:,} output" + "s" * (count > 1)
        raise ConfigError(
            f"`{weights}` names no classes and has {outputs} (ImageNet's would be {len(found.classes):,}): name the "
            "data set that it was trained on (`data=NAME`)."
        )
    loaded.refuse_untrained()
    if guessed:
        say("the weights name no classes; their 1,000 outputs are taken for ImageNet's")
    return loaded


def _takes_images_alone(config: DictConfig, model: str) -> None:
    if "image_size" not in config.data:
        raise ConfigError(f"`model={model}` takes no images.")
    if config.model.get("tokenizer"):
        raise ConfigError(
            f"`model={model}` has no classes of its own: say what to choose from, `--labels 'a cat,a dog'`."
        )


def _compare(theirs: list[str], ours: list[str], data: str, weights: str) -> None:
    """Refuse another number of classes; say it where the names differ."""
    if theirs and len(theirs) != len(ours):
        raise ConfigError(
            f"`{weights}` knows {listed(theirs)}, `data={data}` has {listed(ours)}: leave `data=` out, and the outputs "
            "have the names of the weights."
        )
    if theirs and not agree(theirs, ours):
        say(f"outputs are named as the weights name them, {listed(theirs)}, not as `data={data}`: {listed(ours)}")
