"""A trained language model that is used: loaded from a run or from public weights, with its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tfcli.engine.config.build import plain
from tfcli.engine.loading.load_model import Loaded, find_model
from tfcli.engine.runs.terminal import quiet_libraries, say
from tfcli.engine.train.numerics import one_device
from tfcli.errors import ConfigError
from tfcli.models.protocols import LanguageModel, Translator
from tfcli.text.tokenizer import Tokenizer
from tfcli.weights import generation


@dataclass(kw_only=True)
class LoadedLanguageModel(Loaded):
    """A model and what its ids mean.

    Attributes:
        sampling: how tokens are drawn where the user does not say: arguments of a `Sampler` that the checkpoint states.
    """

    tokenizer: Tokenizer
    sampling: dict[str, Any] = field(default_factory=dict)

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
        """Return a text as a batch (1, N) of one row of ids, without marks."""
        return torch.tensor(self.tokenizer.encode([text]), dtype=torch.long, device=self.device)


def load_language_model(
    run: Path | None,
    overrides: list[str],
    *,
    config_dir: str | None = None,
    inside: bool = False,
    classes: Sequence[str] = (),
) -> LoadedLanguageModel:
    """Load the model of a run's best checkpoint, or of the weights that `overrides` name, ready to be asked.

    Args:
        classes: names of what the head of public weights knows.
        inside: its layers alone are looked at, not what it says: the heads on the last of them may be untrained.

    Raises:
        ConfigError: neither a run nor weights, or a model that takes no text.
        RunError: the run has no checkpoint.
        WeightsError: the weights lack a part that is asked.
    """
    quiet_libraries()
    found = find_model(run, overrides, config_dir=config_dir)
    if "vocab_size" not in found.config.model:
        raise ConfigError("this model takes no text: it has no `model.vocab_size`.")
    sampling: dict[str, Any] = {}
    if run is None:
        found.classes = list(classes)
        if found.tokenizer is not None and not inside and "search" not in found.config.task:
            sampling, lines = generation.sampler(found.tokenizer, {})
            found.notes += lines
    for line in found.notes:
        say(line)
    if found.config.data.get("num_classes") is None or classes:
        found.config.data.num_classes = len(found.classes) or None
    loaded = found.build()
    loaded.refuse_untrained(unused=getattr(loaded.net, "readouts", ()) if inside else ())
    loaded.net.to(one_device(plain(found.config.trainer)).local[0])
    return LoadedLanguageModel(**vars(loaded), sampling=sampling)
