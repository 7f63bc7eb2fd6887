"""A trained model of images that is used: loaded from a run or from public weights, with how it sees images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from tfcli.engine.config.build import build, plain
from tfcli.engine.config.compose import compose, given
from tfcli.engine.loading.blueprint import adopt_blueprint, tokenizer_for
from tfcli.engine.runs.saved_config import find_checkpoint, kept_tokenizer, on_these_devices
from tfcli.engine.runs.terminal import say
from tfcli.engine.train import numerics as num
from tfcli.engine.train.checkpoints import load_state, network, read_checkpoint
from tfcli.engine.train.prepare import quiet_libraries, train_first
from tfcli.errors import ConfigError
from tfcli.text.tokenizer import Tokenizer


@dataclass
class LoadedImageModel:
    """A model and the data module through which it sees files.

    Attributes:
        tokenizer: of its text tower; None where it has none.
    """

    net: nn.Module
    data: Any
    tokenizer: Tokenizer | None
    config: DictConfig
    choices: dict[str, str]
    device: torch.device


def load_image_model(
    run: Path | None, overrides: list[str], *, words: Callable[[], list[str]] = list, config_dir: str | None = None
) -> LoadedImageModel:
    """The model of a run's best checkpoint, or of the weights that `overrides` name, ready to be shown images.

    Args:
        words: texts that a new vocabulary of words is made from.

    Raises:
        ConfigError: neither a run nor weights, or a model that takes no images.
        RunError: the run has no checkpoint.
    """
    quiet_libraries()
    state, path, classes = None, None, list[str]()
    typed = {o.lstrip("+").partition("=")[0] for o in overrides}
    if run is not None:
        config, choices = on_these_devices(run, overrides)
        checkpoint = read_checkpoint(find_checkpoint(run, "best"))
        state, path, classes = network(checkpoint), kept_tokenizer(run), checkpoint["tfcli"]["classes"]
        config.model.weights = None
    else:
        job = compose("train", overrides, config_dir)
        config, choices = job.config, job.choices
        if not config.model.get("weights"):
            raise ConfigError(
                "a run, or `model.weights=NAME or PATH`, is needed: untrained weights give no useful output."
            )
        typed = given(overrides, choices)
        path, said = adopt_blueprint(config, typed)
        for line in said:
            say(line)
    if "image_size" not in config.data:
        raise ConfigError(f"{choices['model']} on {choices['data']} takes no images.")
    tokenizer = tokenizer_for(config, path, words)
    if config.data.get("num_classes") is None:
        config.data.num_classes = len(classes) or 1  # of a head that nobody asks
    data, net = build(config.data), build(config.model)
    if state is not None and run is not None:
        load_state(net, state, run)
    else:
        from tfcli.weights.load import HEADS, load_weights

        report = load_weights(net, str(config.model.weights), typed=typed)
        report.refuse_untrained(train_first(overrides), unused=HEADS)
    devices = num.find_devices({**plain(config.trainer), "devices": 1, "strategy": "auto"})
    num.set_threads(devices, None)
    device = torch.device("cuda" if devices.accelerator in ("gpu", "cuda") else devices.accelerator)
    return LoadedImageModel(net.to(device).eval(), data, tokenizer, config, choices, device)
