"""One label a text, or a pair of texts, or the right one of several: fine-tuning as BERT and GPT-1 do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.bounds import Count, NotNegative, Rate
from tfcli.data.module import DataModule
from tfcli.metrics.glue import LabelMetrics
from tfcli.models.protocols import TextClassifier
from tfcli.tasks.baselines.classes import class_guesses
from tfcli.tasks.baselines.texts import label_baselines
from tfcli.tasks.choosing import ClassChoice
from tfcli.tasks.lm import token_loss


def scored(net: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the head's output for a batch, from its tokens, padding mask and, where present, segments."""
    read = {name: batch[name] for name in ("tokens", "segments", "valid") if name in batch}
    return cast(TextClassifier, net).classify(**read)


class TextClassify(ClassChoice):
    """Trains and measures a classifier of texts.

    Logs train/loss; under val/ and test/ what `LabelMetrics` computes.

    Args:
        net: `net.classify(tokens, valid=..., segments=...)` gives logits (B, K).
        num_classes: K; None: as many as there are choices.
        optim: makes an optimizer, called as `optim(net)`.
        schedule: the learning rate's factor, called as `schedule(step, total=..., epoch=...)`.
        label_smoothing: in the training loss only.
        lm_weight: of the language-modelling loss of the same texts, added while training (Radford et al. 2018,
            equation 5, lambda 0.5); for models that read from left to right.
    """

    net_protocol = TextClassifier
    main_figure = "accuracy"
    next_command = 'tfcli predict latest --text "..."'

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: Count | None = None,
        optim: Callable[..., torch.optim.Optimizer],
        schedule: Callable[..., float],
        label_smoothing: Rate = 0.0,
        lm_weight: NotNegative = 0.0,
    ):
        super().__init__(net, optim=optim, schedule=schedule)
        if lm_weight and not hasattr(net, "logits"):
            raise ValueError(
                f"`task.lm_weight` is {lm_weight}, but {type(net).__name__} does not predict the next token."
            )
        self.num_classes, self.label_smoothing, self.lm_weight = num_classes, label_smoothing, lm_weight
        self.measured = nn.ModuleDict()

    def setup_data(self, data: DataModule) -> None:
        """Take the number of classes, or of choices."""
        self.num_classes = self.num_classes or len(data.rows["train"]["choices"][0])
        groups = {"val_": (), "test_": tuple(data.groups)}
        self.measured.update({split: LabelMetrics(self.num_classes, groups=parts) for split, parts in groups.items()})

    def guesses(self, data: DataModule) -> dict[str, float]:
        group = {"group": torch.tensor(data.rows["test"]["group"])} if data.groups else {}
        return class_guesses(self.metric("test"), data.labels("train"), data.labels("test"), update=group)

    def baselines(self, data: DataModule) -> dict[str, float]:
        return label_baselines(data) if "choices" not in data.rows["test"] else {}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        label = batch["label"]
        loss = cross_entropy(self.scores(batch).float(), label, label_smoothing=self.label_smoothing)
        self.average(loss, label)
        return loss + self.lm_weight * self.language_loss(batch) if self.lm_weight else loss

    def scores(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits (B, K)."""
        return scored(self.net, batch)

    def language_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The language-modelling loss of a batch's texts; marks are not said."""
        tokens = batch["tokens"].flatten(0, -2)
        valid = batch["valid"].flatten(0, -2)[:, 1:] & (tokens[:, 1:] >= 0)
        return token_loss(self.net(tokens[:, :-1]), tokens[:, 1:].masked_fill(~valid, -100))

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        logits, label = self.scores(batch).float(), batch["label"]
        loss = cross_entropy(logits, label, reduction="none")
        self.metric(split).update(logits, label, loss, batch.get("group") if split == "test" else None)
        self.keep(split, batch["index"], label, logits)
