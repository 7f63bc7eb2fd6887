"""Text classification: fine-tuning on single texts, pairs of texts and multiple choice, as in BERT and GPT-1."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.bounds import Count, NotNegative, Rate
from tfcli.data.module import DataModule
from tfcli.errors import ConfigError
from tfcli.metrics.glue import LabelMetrics
from tfcli.models.protocols import TextClassifier
from tfcli.tasks.baselines.classes import class_guesses
from tfcli.tasks.baselines.texts import label_baselines
from tfcli.tasks.lm import token_loss
from tfcli.tasks.objective import ClassChoice
from tfcli.tasks.text import Prediction, TrainedHead, paired, ranked


def head_output(net: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the head's output for a batch, from its tokens, padding mask and, where present, segments."""
    inputs = {name: batch[name] for name in ("tokens", "segments", "valid") if name in batch}
    return cast(TextClassifier, net).classify(**inputs)


class TextClassify(ClassChoice):
    """Text classification.

    Logs train/loss, and under val/ and test/ the figures of `LabelMetrics`.

    Args:
        net: model whose `classify(tokens, valid=..., segments=...)` returns logits (B, K).
        num_classes: K; None: the number of choices.
        label_smoothing: label smoothing of the training loss.
        lm_weight: weight of an additional language-modelling loss on the same texts (Radford et al. 2018, equation 5,
            lambda 0.5); for causal models.
        objective: as in `Objective`.
    """

    net_protocol = TextClassifier
    main_figure = "accuracy"
    next_command = 'tfcli predict latest --text "..."'

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: Count | None = None,
        label_smoothing: Rate = 0.0,
        lm_weight: NotNegative = 0.0,
        **objective: Any,
    ):
        super().__init__(net, **objective)
        if lm_weight and not hasattr(net, "logits"):
            raise ValueError(
                f"`task.lm_weight` is {lm_weight}, but {type(net).__name__} does not predict the next token."
            )
        self.num_classes, self.label_smoothing, self.lm_weight = num_classes, label_smoothing, lm_weight
        self.measured = nn.ModuleDict()

    @staticmethod
    def predict_texts(head: TrainedHead, texts: list[str], pairs: list[str]) -> list[Prediction]:
        """Predict classes of texts or pairs, or which of `pairs` is the best choice after the one text.

        Raises:
            ConfigError: the numbers of texts and pairs do not fit.
        """
        if "choices" not in head.needs:
            logits, _ = head.outputs(paired(texts, pairs))
            return ranked(logits, texts, head.classes, head.top)
        if len(texts) != 1 or len(pairs) < 2:
            raise ConfigError("one context (--text) and at least two ways to go on (--pair) are needed.")
        logits, _ = head.outputs({"context": texts, "choices": [pairs], "label": [0]})
        return ranked(logits, texts, pairs, head.top)

    def setup_data(self, data: DataModule) -> None:
        """Set up the metrics with the number of classes or choices."""
        if "choices" in data.rows["train"]:
            self.next_command = 'tfcli predict latest --text "..." --pair "..." --pair "..."'
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
        """Return the logits (B, K)."""
        return head_output(self.net, batch)

    def language_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the language-modelling loss of a batch's texts; the marks that frame them are not predicted."""
        tokens = batch["tokens"].flatten(0, -2)
        valid = batch["valid"].flatten(0, -2)[:, 1:] & (tokens[:, 1:] >= 0)
        return token_loss(self.net(tokens[:, :-1]), tokens[:, 1:].masked_fill(~valid, -100))

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        logits, label = self.scores(batch).float(), batch["label"]
        loss = cross_entropy(logits, label, reduction="none")
        self.metric(split).update(logits, label, loss, batch.get("group") if split == "test" else None)
        self.keep(split, batch["index"], label, logits)
