"""Token classification: a tag for each word, for instance named entities."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tfcli.data.module import DataModule
from tfcli.metrics.entities import EntityMetrics
from tfcli.models.protocols import TextClassifier
from tfcli.tasks.baselines.texts import tag_baselines
from tfcli.tasks.lm import token_loss
from tfcli.tasks.objective import MeasuredObjective
from tfcli.tasks.text import Prediction, TrainedHead
from tfcli.tasks.text_classify import head_output


class Tag(MeasuredObjective):
    """Token classification by cross-entropy on the first sub-word of each word; the figures are of whole entities.

    Args:
        net: model whose `classify(tokens, valid=..., segments=...)` returns logits (B, N, K).
        objective: as in `Objective`.
    """

    net_protocol = TextClassifier
    main_figure = "f1"
    next_command = 'tfcli predict latest --text "..."'

    def __init__(self, net: nn.Module, **objective: Any):
        super().__init__(net, **objective)
        self.measured = nn.ModuleDict()

    @staticmethod
    def predict_texts(head: TrainedHead, texts: list[str], pairs: list[str]) -> list[Prediction]:
        """Predict the tags of the words of texts, which are separated by blanks."""
        words = [text.split() for text in texts]
        logits, batch = head.outputs({"words": words, "tags": [[0] * len(own) for own in words]})
        rows = []
        for text, own, guess, target in zip(texts, words, logits.argmax(-1).cpu(), batch["target"].cpu(), strict=True):
            names = [head.classes[i] for i in guess[target >= 0].tolist()]
            tags = [{"word": word, "tag": name} for word, name in zip(own, names, strict=False)]
            tagged = " ".join(f"{t['word']}/{t['tag']}" if t["tag"] != "O" else t["word"] for t in tags)
            rows.append({"text": text, "answer": tagged, "tags": tags})
        return rows

    def setup_data(self, data: DataModule) -> None:
        """Set up the metrics with the names of the tags and the words of each sentence."""
        for split in ("val", "test"):
            metric = EntityMetrics(data.classes)
            metric.words = data.rows.get(split, {}).get("words")
            self.measured[f"{split}_"] = metric

    def baselines(self, data: DataModule) -> dict[str, float]:
        return tag_baselines(data)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = token_loss(head_output(self.net, batch), batch["target"])
        self.average(loss, batch["target"])
        return loss

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        guess = head_output(self.net, batch).argmax(-1)
        self.metric(split).update(guess, batch["target"], batch["index"])
