"""BERT's pre-training: masked language modelling and next-sentence prediction."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.data.module import DataModule
from tfcli.metrics.masked import MaskedMetrics
from tfcli.models.protocols import MaskedModel
from tfcli.tasks.baselines.texts import masked_baselines
from tfcli.tasks.objective import MeasuredObjective


class MaskedLM(MeasuredObjective):
    """Masked language modelling plus next-sentence prediction (Devlin et al. 2019, appendix A.2).

    The training loss is the sum of both losses. Logs train/loss (of the masked tokens, in nats), and under val/ and
    test/ the figures of `MaskedMetrics`.

    Args:
        net: encoder with the two heads of pre-training.
        objective: as in `Objective`.
    """

    net_protocol = MaskedModel
    main_figure, monitored = "masked_accuracy", "loss"
    next_command = "tfcli train experiment=sst2_bert model.weights=latest"

    def __init__(self, net: nn.Module, **objective: Any):
        super().__init__(net, **objective)
        self.measured = nn.ModuleDict()

    def setup_data(self, data: DataModule) -> None:
        """Set up the metrics, with next-sentence prediction if the view has it."""
        next_sentence = getattr(data.view, "next_sentence", True)
        self.unmeasured = () if next_sentence else ("pooler", "next")
        self.measured.update({split: MaskedMetrics(next_sentence=next_sentence) for split in ("val_", "test_")})

    def logits(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (R, V) of the masked tokens, row by row, and (B, 2) of next-sentence prediction."""
        net = cast(MaskedModel, self.net)
        features = net.features(batch["tokens"], batch["segments"], batch["valid"])
        return net.masked_logits(features.tokens[batch["target"] >= 0]).float(), net.next_logits(features.pooled)

    def baselines(self, data: DataModule) -> dict[str, float]:
        return masked_baselines(data)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        token_logits, next_logits = self.logits(batch)
        target, label = batch["target"][batch["target"] >= 0], batch["next"]
        loss = cross_entropy(token_logits, target)
        self.add(loss.detach() * len(target), len(target))
        labelled = (label >= 0).sum()
        return loss + cross_entropy(next_logits.float(), label, reduction="sum") / labelled.clamp(min=1)

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        token_logits, next_logits = self.logits(batch)
        masked = batch["target"] >= 0
        target, row = batch["target"][masked], masked.nonzero()[:, 0]
        sums = torch.zeros(2, len(masked), device=token_logits.device)
        sums[0].index_add_(0, row, cross_entropy(token_logits, target, reduction="none"))
        sums[1].index_add_(0, row, (token_logits.argmax(1) == target).float())
        label = batch["next"]
        next_correct = torch.where(label >= 0, (next_logits.argmax(1) == label).long(), -1)
        self.metric(split).update(sums[0], sums[1].long(), masked.sum(1), next_correct, batch["index"])
