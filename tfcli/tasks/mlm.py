"""Filling in words, and telling what follows from what does not: BERT's pre-training."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.data.module import DataModule
from tfcli.metrics.masked import MaskedMetrics
from tfcli.models.protocols import MaskedModel
from tfcli.tasks.baselines.texts import masked_baselines
from tfcli.tasks.text import TextObjective


class MaskedLM(TextObjective):
    """Trains on masked tokens and next texts, whose losses are added (Devlin et al. 2019, appendix A.2).

    Logs train/loss (of the masked tokens, in nats); under val/ and test/ what `MaskedMetrics` computes.

    Args:
        net: an encoder with the two heads of pre-training.
        optim: makes an optimizer, called as `optim(net)`.
        schedule: the learning rate's factor, called as `schedule(step, total=..., epoch=...)`.
    """

    net_protocol = MaskedModel
    main_figure, monitored = "masked_accuracy", "loss"
    next_command = "tfcli train experiment=sst2_bert model.weights=latest"

    def __init__(self, net: nn.Module, *, optim: Callable[..., torch.optim.Optimizer], schedule: Callable[..., float]):
        super().__init__(net, optim=optim, schedule=schedule)
        self.measured = nn.ModuleDict()

    def setup_data(self, data: DataModule) -> None:
        """Learn whether there are next texts to tell."""
        asked = getattr(data.view, "next_sentence", True)
        self.unmeasured = () if asked else ("pooler", "next")
        self.measured.update({split: MaskedMetrics(next_sentence=asked) for split in ("val_", "test_")})

    def logits(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (R, V) of the tokens asked, row by row, and (B, 2) of next texts."""
        net = cast(MaskedModel, self.net)
        features = net.features(batch["tokens"], batch["segments"], batch["valid"])
        return net.masked_logits(features.tokens[batch["target"] >= 0]).float(), net.next_logits(features.pooled)

    def baselines(self, data: DataModule) -> dict[str, float]:
        return masked_baselines(data)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        words, follows = self.logits(batch)
        target, label = batch["target"][batch["target"] >= 0], batch["next"]
        loss = cross_entropy(words, target)
        self.add(loss.detach() * len(target), len(target))
        told = (label >= 0).sum()
        return loss + cross_entropy(follows.float(), label, reduction="sum") / told.clamp(min=1)

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        words, follows = self.logits(batch)
        asked = batch["target"] >= 0
        target, row = batch["target"][asked], asked.nonzero()[:, 0]
        sums = torch.zeros(2, len(asked), device=words.device)
        sums[0].index_add_(0, row, cross_entropy(words, target, reduction="none"))
        sums[1].index_add_(0, row, (words.argmax(1) == target).float())
        label = batch["next"]
        told = torch.where(label >= 0, (follows.argmax(1) == label).long(), -1)
        self.metric(split).update(sums[0], sums[1].long(), asked.sum(1), told, batch["index"])
