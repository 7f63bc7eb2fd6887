"""Causal language modelling: prediction of the next token."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.bounds import Rate
from tfcli.data.module import DataModule
from tfcli.metrics.language import LanguageMetrics
from tfcli.models.protocols import LanguageModel
from tfcli.shapes import Float, Int
from tfcli.tasks.baselines.texts import language_baselines
from tfcli.tasks.objective import MeasuredObjective


def token_loss(
    logits: Float[Tensor, "B N V"], target: Int[Tensor, "B N"], *, smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy over the tokens whose target is not -100.

    Args:
        smoothing: share of the target that is spread evenly over the vocabulary (Szegedy et al. 2016, section 7).
    """
    return cross_entropy(logits.flatten(0, 1).float(), target.flatten(), label_smoothing=smoothing)


def nats(logits: Float[Tensor, "B N V"], target: Int[Tensor, "B N"]) -> Float[Tensor, "B"]:
    """Return the cross-entropy of each sequence in nats, summed over the tokens whose target is not -100."""
    return cross_entropy(logits.mT.float(), target, reduction="none").sum(1)


class CausalLM(MeasuredObjective):
    """Causal language modelling (Radford et al. 2018, equation 1).

    Logs train/loss (nats per token), and under val/ and test/ the figures of `LanguageMetrics`.

    Args:
        net: model that maps tokens (B, N) to the logits (B, N, V) of the next tokens.
        label_smoothing: label smoothing of the training loss.
        objective: as in `Objective`.
    """

    net_protocol = LanguageModel
    main_figure, monitored = "bits_per_char", "loss"
    next_command = 'tfcli sample latest --text "Once"'

    def __init__(self, net: nn.Module, *, label_smoothing: Rate = 0.0, **objective: Any):
        super().__init__(net, **objective)
        self.label_smoothing = label_smoothing
        self.measured = nn.ModuleDict({split: LanguageMetrics() for split in ("val_", "test_")})

    def baselines(self, data: DataModule) -> dict[str, float]:
        return language_baselines(data)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        target = batch["target"]
        loss = token_loss(self.net(batch["tokens"]), target, smoothing=self.label_smoothing)
        self.average(loss, target)
        return loss

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        target = batch["target"]
        self.metric(split).update(
            nats(self.net(batch["tokens"]), target),
            (target >= 0).sum(1),
            bytes=batch["bytes"],
            chars=batch["chars"],
            words=batch["words"],
        )
