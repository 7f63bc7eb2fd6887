"""A trained model, loaded from a run or from public weights.

`load_model` finds it and builds it. A verb whose data decide on the model's head or vocabulary takes the two steps:
`find_model`, then `Found.build`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from tfcli.engine.config.build import build
from tfcli.engine.config.compose import Composition, compose, given
from tfcli.engine.loading.adopt import adopt_weights, make_tokenizer
from tfcli.engine.loading.from_checkpoint import load_state, net_state, read_checkpoint
from tfcli.engine.runs.saved_config import config_for_this_machine, find_checkpoint, saved_tokenizer
from tfcli.errors import ConfigError
from tfcli.probes import features
from tfcli.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tfcli.weights.blueprint import Blueprint
    from tfcli.weights.load_report import LoadReport


@dataclass(kw_only=True)
class Loaded:
    """A trained model.

    Attributes:
        config: that it was built from; `data` in it says how images are preprocessed.
        choices: the option taken in each group, for instance `{"model": "vit", "data": "pets"}`.
        classes: names of its outputs; empty where nobody names them.
        tokenizer: of its texts; None without texts.
        notes: lines for the user.
        run: whose it is; None for public weights.
        state: tensors of the run's whole task; empty for public weights.
        report: how public weights were loaded; None for a run.
    """

    net: nn.Module
    config: DictConfig
    choices: dict[str, str]
    overrides: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    tokenizer: Tokenizer | None = None
    notes: list[str] = field(default_factory=list)
    run: Path | None = None
    state: dict[str, Tensor] = field(default_factory=dict)
    report: LoadReport | None = None

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How it sees images: their side, mean, deviation and resizing; empty for a model of texts."""
        from tfcli.data.images.resize import SETTINGS

        data = self.config.data
        return {key: data[key] for key in SETTINGS if key in data}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tensors that its features depend on."""
        return features.digest(features.image_weights(self.net))

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def refuse_untrained(self, *, remedy: str = "", unused: Collection[str] = ()) -> None:
        """Refuse public weights that leave a part as it was initialised.

        Args:
            remedy: what to do about it; by default, to train the model that the overrides name.
            unused: parts that are not asked.

        Raises:
            WeightsError: another part is untrained.
        """
        if self.report is not None:
            self.report.refuse_untrained(remedy or self._train_first(), unused=unused)

    def _train_first(self) -> str:
        frozen = ("heads", "features", "run.", "protocol", "cache")  # settings of verbs that train nothing
        own = [text for text in self.overrides if not text.startswith(frozen)]
        return f"Train it first (`{shlex.join(['tfcli', 'train', *own])}`), and ask that run."


@dataclass(kw_only=True)
class Found:
    """A model that is not built yet.

    Attributes:
        config: sized as its weights are; change it before `build`.
        weights: the name or path of public weights; None for a run, or for a model that stays as initialised.
        checkpoint: of the run; empty without one.
        tokenizer: the file of the tokenizer that it was trained with.
        classes: names of its outputs, where the run or the weights name them.
        notes: lines for the user.
        blueprint: what the public weights state of the model and its images.
    """

    config: DictConfig
    choices: dict[str, str]
    overrides: list[str]
    weights: str | None = None
    run: Path | None = None
    checkpoint: dict[str, Any] = field(default_factory=dict)
    tokenizer: Path | None = None
    classes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    blueprint: Blueprint | None = None

    @property
    def typed(self) -> set[str]:
        """Keys that the user gave, or the experiment."""
        return given(self.overrides, self.choices)

    def build(
        self,
        texts: Callable[[], list[str]] | None = list,
        *,
        num_classes: int | None = None,
        classes: Sequence[str] = (),
    ) -> Loaded:
        """Build the net and put its weights in. It is in evaluation mode.

        Args:
            texts: what a new tokenizer is made from, where the model has none; None: no text is read.
            num_classes: of the data, checked against the head of public weights; None: not checked.
            classes: their names, likewise.

        Raises:
            RunError: the run's checkpoint is of another model than its config.
            WeightsError: the weights are of another model.
        """
        tokenizer = make_tokenizer(self.config, self.tokenizer, texts) if texts is not None else None
        net = build(self.config.model)
        report = None
        if self.run is not None:
            load_state(net, net_state(self.checkpoint), self.run, self.overrides)
        elif self.weights is not None:
            from tfcli.weights.load import load_weights

            report = load_weights(net, self.weights, num_classes=num_classes, classes=classes, typed=self.typed)
        return Loaded(
            net=net.eval(),
            config=self.config,
            choices=self.choices,
            overrides=self.overrides,
            classes=self.classes,
            tokenizer=tokenizer,
            notes=self.notes,
            run=self.run,
            state=self.checkpoint.get("state_dict", {}),
            report=report,
        )


def load_model(run: Path | None, overrides: list[str], *, config_dir: str | None = None) -> Loaded:
    """Load the model of a run's best checkpoint, or of the public weights that `overrides` name.

    Raises:
        ConfigError: neither a run nor weights.
        RunError: the run has no checkpoint.
        WeightsError: the weights are not there, of another model, or without a trained part.
    """
    loaded = find_model(run, overrides, config_dir=config_dir).build()
    loaded.refuse_untrained()
    return loaded


def find_model(
    run: Path | None,
    overrides: list[str] | None = None,
    *,
    config_dir: str | None = None,
    job: Composition | None = None,
    tokenizer: Path | None = None,
    trained: bool = True,
) -> Found:
    """Find the model of a run, or of the public weights that a config names, sized and preprocessed as they state.

    Args:
        run: whose best checkpoint is taken; None: public weights.
        overrides: settings, where the config is not composed yet.
        config_dir: the user's own configs, likewise.
        job: the config, of which `model` is the run's own where there is a run.
        tokenizer: of the run that goes on from the weights: its config has what they state already.
        trained: False: it stays as it is initialised, and no weights are looked for.

    Raises:
        ConfigError: neither a run nor weights.
        RunError: the run has no checkpoint.
        WeightsError: the checkpoint cannot be found or opened.
    """
    if job is None:
        job = _of_run(run, overrides or []) if run else compose("train", overrides or [], config_dir)
    found = Found(config=job.config, choices=job.choices, overrides=job.overrides, run=run, tokenizer=tokenizer)
    if run is not None:
        found.checkpoint, found.tokenizer = read_checkpoint(find_checkpoint(run, "best")), saved_tokenizer(run)
        found.classes = found.checkpoint["tfcli"]["classes"]
    elif trained:
        if not job.config.model.get("weights"):
            raise ConfigError(
                "a run, or `model.weights=NAME or PATH`, is needed: untrained weights give no useful output."
            )
        found.weights = str(job.config.model.weights)
        if tokenizer is None:
            found.blueprint, found.tokenizer, found.notes = adopt_weights(job.config, found.typed)
            found.classes = list(found.blueprint.classes) if found.blueprint else []
    return found


def _of_run(run: Path, overrides: list[str]) -> Composition:
    config, choices = config_for_this_machine(run, overrides)
    config.model.weights = None  # the checkpoint has them all
    return Composition(config, overrides, choices)
