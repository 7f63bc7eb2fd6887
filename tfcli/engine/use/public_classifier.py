"""A classifier of public weights, and whose names its outputs have: the checkpoint's, a data set's or ImageNet's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from tfcli.data.module import DataModule
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose, given
from tfcli.engine.loading import from_run
from tfcli.engine.loading.blueprint import adopt_blueprint, says
from tfcli.engine.runs.terminal import say
from tfcli.engine.train.prepare import train_first
from tfcli.errors import ConfigError
from tfcli.weights.classes import agree, imagenet, listed
from tfcli.weights.load import load_weights

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Classifier:
    """A model that `model.weights` names, not built yet.

    Attributes:
        config: sized and transformed as the checkpoint states.
        choices: the option taken in each group.
        classes: names of the outputs.
        overrides: that it was composed from.
        guessed: the names are ImageNet's, because nobody states any.
    """

    config: DictConfig
    choices: dict[str, str]
    classes: list[str]
    overrides: list[str]
    guessed: bool = False

    def load(self, net: nn.Module) -> None:
        """Put the weights into the built net.

        Raises:
            ConfigError: the names are a guess, and the head has not so many outputs.
            WeightsError: they are of another model, or without a trained head.
        """
        weights = str(self.config.model.weights)
        report = load_weights(net, weights, num_classes=len(self.classes), typed=given(self.overrides, self.choices))
        if self.guessed and report.outputs:
            outputs = f"{report.outputs:,} output" + "s" * (report.outputs > 1)
            raise ConfigError(
                f"`{weights}` names no classes and has {outputs} (ImageNet's would be {len(self.classes):,}): name the "
                "data set that it was trained on (`data=NAME`)."
            )
        report.refuse_untrained(train_first(self.overrides))
        if self.guessed:
            say("the weights name no classes; their 1,000 outputs are taken for ImageNet's")


def run_of(overrides: list[str], config_dir: str | None) -> Path | None:
    """Return the run of ours that `model.weights=` names, if it names one."""
    config = compose("train", overrides, config_dir).config
    return from_run.find(config) if config.model.get("weights") else None


def classifier(overrides: list[str], config_dir: str | None = None) -> Classifier:
    """Return the classifier that `overrides` name. Without `data=`, no data set is looked for.

    Raises:
        ConfigError: no weights are named, the model is no classifier of images, or the checkpoint knows another number
            of classes than the data set.
        WeightsError: the checkpoint cannot be found or opened.
    """
    named = any(text.startswith("data=") for text in overrides)
    job = compose("train", overrides, config_dir)
    if not job.config.model.get("weights"):
        raise ConfigError("`tfcli predict` needs a run, or `model.weights=NAME or PATH`.")
    _takes_images_alone(job.config, job.choices["model"])
    if not named:
        job = compose("train", ["data=folder", *overrides], config_dir)  # photographs, of which none is read
    config, choices = job.config, job.choices
    typed = given(job.overrides, choices)
    found = says(config, typed)
    theirs = list(found.classes) if found else []
    _, said = adopt_blueprint(config, typed, found)
    for line in said:
        say(line)
    classes = theirs or list(imagenet())
    if named:
        data: DataModule = build(config.data)
        data.prepare()
        classes = theirs or data.classes
        _compare(theirs, data.classes, choices["data"], str(config.model.weights))
    OmegaConf.update(config, "data.num_classes", len(classes))
    return Classifier(config, choices, classes, overrides, guessed=not named and not theirs)


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
