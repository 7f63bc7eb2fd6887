"""A trained language model that is used: loaded from a run or from public weights, with its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from tfcli.engine.config.build import build, plain
from tfcli.engine.config.compose import compose
from tfcli.engine.loading.blueprint import adopt_blueprint, subwords_for
from tfcli.engine.runs.saved_config import find_checkpoint, kept_tokenizer, on_these_devices
from tfcli.engine.runs.terminal import say
from tfcli.engine.train import numerics as num
from tfcli.engine.train.checkpoints import load_state, network, read_checkpoint
from tfcli.engine.train.prepare import quiet_libraries, train_first
from tfcli.errors import ConfigError
from tfcli.models.protocols import LanguageModel, Translator
from tfcli.text.subwords import Subwords


@dataclass
class LoadedLanguageModel:
    """A model and what its ids mean.

    Attributes:
        classes: names of the classes or tags that its head knows; empty where it has none.
        drawn: how tokens are drawn where the user does not say: arguments of a `Sampler` that the checkpoint states.
        run: whose it is; None for public weights.
    """

    net: nn.Module
    tokenizer: Subwords
    config: DictConfig
    choices: dict[str, str]
    device: torch.device
    classes: list[str]
    drawn: dict[str, Any] = field(default_factory=dict)
    run: Path | None = None

    @property
    def context(self) -> int | None:
        """The most tokens that it takes; None: any number."""
        return self.config.model.get("context")

    @property
    def translates(self) -> bool:
        """Whether it reads one text and writes another."""
        return isinstance(self.net, Translator)

    def check_writes(self) -> None:
        """Refuse a model that is no language model.

        Raises:
            ConfigError: it is none.
        """
        if self.translates or not isinstance(self.net, LanguageModel):
            raise ConfigError(
                f"`{self.choices['model']}` does not continue a text; models trained by `tfcli train model=gpt` do."
            )

    def warn_truncated(self, cut: int) -> None:
        """Say that so many texts were longer than what it takes."""
        if cut:
            texts = "a text is" if cut == 1 else f"{cut:,} texts are"
            say(f"{texts} longer than the {self.context:,} tokens that the model takes: the rest is not read")

    def ids(self, text: str) -> Tensor:
        """A text as a batch (1, N) of one row of ids, without marks."""
        return torch.tensor(self.tokenizer.encode([text]), dtype=torch.long, device=self.device)


def load_language_model(
    run: Path | None,
    overrides: list[str],
    *,
    config_dir: str | None = None,
    inside: bool = False,
    classes: Sequence[str] = (),
) -> LoadedLanguageModel:
    """The model of a run's best checkpoint, or of the weights that `overrides` name, ready to be asked.

    Args:
        classes: names of what the head of public weights knows.
        inside: its layers alone are looked at, not what it says: the heads on the last of them may be untrained.

    Raises:
        ConfigError: neither a run nor weights, or a model that takes no text.
        RunError: the run has no checkpoint.
        WeightsError: the weights lack a part that is asked.
    """
    quiet_libraries()
    names = list(classes)
    drawn: dict[str, Any] = {}
    if run is not None:
        config, choices = on_these_devices(run, overrides)
        checkpoint = read_checkpoint(find_checkpoint(run, "best"))
        names = checkpoint["tfcli"]["classes"]
        config.model.weights = None
        tokenizer = subwords_for(config, kept_tokenizer(run), list)
    else:
        job = compose("train", overrides, config_dir)
        config, choices, checkpoint = job.config, job.choices, None
        if not config.model.get("weights"):
            raise ConfigError(
                "a run, or `model.weights=NAME or PATH`, is needed: untrained weights give no useful output."
            )
        from tfcli.weights import generation

        path, said = adopt_blueprint(config, {o.partition("=")[0] for o in overrides})
        if path is not None and not inside:
            drawn, lines = generation.sampler(path, {}) if "search" not in config.task else ({}, [])
            said += lines
        for line in said:
            say(line)
        tokenizer = subwords_for(config, path, list)
    if config.data.get("num_classes") is None or (names and run is None):
        config.data.num_classes = len(names) or None
    net = build(config.model)
    if checkpoint is not None and run is not None:
        load_state(net, network(checkpoint), run)
    else:
        from tfcli.weights.load import load_weights

        report = load_weights(net, str(config.model.weights))
        report.refuse_untrained(train_first(overrides), unused=getattr(net, "readouts", ()) if inside else ())
    devices = num.find_devices({**plain(config.trainer), "devices": 1, "strategy": "auto"})
    num.set_threads(devices, None)
    device = torch.device("cuda" if devices.accelerator in ("gpu", "cuda") else devices.accelerator)
    return LoadedLanguageModel(net.to(device).eval(), tokenizer, config, choices, device, names, drawn, run)
