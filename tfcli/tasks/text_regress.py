"""Text regression: a number for a text or a pair of texts, for instance the similarity of two sentences (STS-B)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from tfcli.data.module import DataModule
from tfcli.metrics.glue import ScoreMetrics
from tfcli.models.protocols import TextClassifier
from tfcli.tasks.baselines.texts import score_baselines
from tfcli.tasks.objective import MeasuredObjective
from tfcli.tasks.text import Prediction, TrainedHead, paired
from tfcli.tasks.text_classify import head_output


class TextRegress(MeasuredObjective):
    """Text regression by mean squared error (Devlin et al. 2019, section 4.1); the figures are correlations.

    The head predicts scores that are standardised by the mean and deviation of the training scores.

    Args:
        net: model whose `classify(tokens, valid=..., segments=...)` returns scores (B).
        objective: as in `Objective`.
    """

    net_protocol = TextClassifier
    main_figure = "spearman"
    next_command = 'tfcli predict latest --text "..."'
    centre: Tensor
    spread: Tensor

    def __init__(self, net: nn.Module, **objective: Any):
        super().__init__(net, **objective)
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self.measured = nn.ModuleDict({split: ScoreMetrics() for split in ("val_", "test_")})

    @staticmethod
    def predict_texts(head: TrainedHead, texts: list[str], pairs: list[str]) -> list[Prediction]:
        """Predict scores of texts or pairs: of a run in the units of its data. Raises ConfigError as `paired`."""
        output, _ = head.outputs(paired(texts, pairs))
        scores = output.cpu() * head.state.get("spread", 1.0) + head.state.get("centre", 0.0)
        return [{"text": text, "answer": round(score, 4)} for text, score in zip(texts, scores.tolist(), strict=True)]

    def setup_data(self, data: DataModule) -> None:
        """Set mean and deviation from the training scores."""
        scores = torch.tensor(data.rows["train"]["score"], dtype=torch.float64)
        self.centre.copy_(scores.mean())
        self.spread.copy_(scores.std().clamp(min=1e-6))

    def scores(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the scores (B) in the units of the data."""
        return head_output(self.net, batch).float() * self.spread + self.centre

    def baselines(self, data: DataModule) -> dict[str, float]:
        return score_baselines(data)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = mse_loss(self.scores(batch), batch["score"])
        self.average(loss, batch["score"])
        return loss / self.spread**2

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        self.metric(split).update(self.scores(batch), batch["score"], batch["index"])
