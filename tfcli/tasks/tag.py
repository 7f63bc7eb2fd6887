"""A tag for each word, such as the kind of entity that it names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tfcli.data.module import DataModule
from tfcli.metrics.entities import EntityMetrics
from tfcli.models.protocols import TextClassifier
from tfcli.tasks.baselines.texts import tag_baselines
from tfcli.tasks.lm import token_loss
from tfcli.tasks.text import TextObjective
from tfcli.tasks.text_classify import scored


class Tag(TextObjective):
    """Trains a tagger by cross-entropy on the first piece of each word, and measures whole entities.

    Args:
        net: `net.classify(tokens, valid=..., segments=...)` gives logits (B, N, K).
        optim: makes an optimizer, called as `optim(net)`.
        schedule: the learning rate's factor, called as `schedule(step, total=..., epoch=...)`.
    """

    net_protocol = TextClassifier
    main_figure = "f1"
    next_command = 'tfcli predict latest --text "..."'

    def __init__(self, net: nn.Module, *, optim: Callable[..., torch.optim.Optimizer], schedule: Callable[..., float]):
        super().__init__(net, optim=optim, schedule=schedule)
        self.measured = nn.ModuleDict()

    def setup_data(self, data: DataModule) -> None:
        """Take the names of the tags, and the words of each sentence."""
        for split in ("val", "test"):
            metric = EntityMetrics(data.classes)
            metric.words = data.rows.get(split, {}).get("words")
            self.measured[f"{split}_"] = metric

    def baselines(self, data: DataModule) -> dict[str, float]:
        return tag_baselines(data)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = token_loss(scored(self.net, batch), batch["target"])
        self.average(loss, batch["target"])
        return loss

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        guess = scored(self.net, batch).argmax(-1)
        self.metric(split).update(guess, batch["target"], batch["index"])
