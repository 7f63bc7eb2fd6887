"""Extractive question answering: the answer is a span of the text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.bounds import Count
from tfcli.data.module import DataModule
from tfcli.errors import ConfigError
from tfcli.metrics.squad import Question, SquadMetrics, best_spans
from tfcli.models.protocols import TextClassifier
from tfcli.shapes import Bool, Float, Int
from tfcli.tasks.objective import MeasuredObjective
from tfcli.tasks.text import Prediction, TrainedHead
from tfcli.tasks.text_classify import head_output


def span_loss(
    scores: Float[Tensor, "B N 2"], start: Int[Tensor, "B"], end: Int[Tensor, "B"], valid: Bool[Tensor, "B N"]
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the answer's start and end (Devlin et al. 2019, section 4.2)."""
    scores = scores.float().masked_fill(~valid[:, :, None], torch.finfo(torch.float32).min)
    return (cross_entropy(scores[:, :, 0], start) + cross_entropy(scores[:, :, 1], end)) / 2


class Span(MeasuredObjective):
    """Extractive question answering; see `SquadMetrics` and `tfcli.data.views.framed.Spans`.

    The threshold for "no answer" is chosen on the validation split, with the weights that are kept (Devlin et al. 2019,
    section 4.3).

    Args:
        net: model whose `classify(tokens, valid=..., segments=...)` returns scores (B, N, 2) of start and end.
        longest: largest number of tokens of an answer.
        objective: as in `Objective`.
    """

    net_protocol = TextClassifier
    main_figure = "f1"
    next_command = 'tfcli predict latest --text "..." --pair "..."'
    threshold: Tensor

    def __init__(self, net: nn.Module, *, longest: Count = 30, **objective: Any):
        super().__init__(net, **objective)
        self.longest = longest
        self.register_buffer("threshold", torch.zeros(()))
        self.measured = nn.ModuleDict()

    @staticmethod
    def predict_texts(head: TrainedHead, texts: list[str], pairs: list[str]) -> list[Prediction]:
        """Predict the answers of questions in the texts of `pairs`, of which one serves all questions.

        Raises:
            ConfigError: a question has no text.
        """
        contexts = pairs * len(texts) if len(pairs) == 1 else pairs
        if len(contexts) != len(texts):
            raise ConfigError("each question (--text) needs the text that its answer is cut from: --pair TEXT.")
        output, batch = head.outputs(
            {"question": texts, "context": contexts, "answers": [[]] * len(texts), "id": texts}
        )
        start, end = output.unbind(-1)
        score, first, last = best_spans(start, end, batch["inside"])
        no_answer = start[:, 0] + end[:, 0]
        unanswerable = head.data.get("source", {}).get("version") == "2.0"
        threshold = float(head.state["threshold"]) if unanswerable else torch.inf
        rows = []
        for number, (text, context) in enumerate(zip(texts, contexts, strict=True)):
            windows = (batch["question"] == number).nonzero()[:, 0]
            best = int(windows[score[windows].argmax()])
            if no_answer[windows].min() - score[best] > threshold:
                rows.append({"text": text, "answer": ""})
                continue
            begin, stop = (int(batch["offsets"][best, at, side]) for at, side in ((first[best], 0), (last[best], 1)))
            rows.append({"text": text, "answer": context[begin:stop]})
        return rows

    def setup_data(self, data: DataModule) -> None:
        """Set up the metrics with the questions; if some have no answer, the scoring is that of SQuAD 2.0."""
        unanswered = any(not answers for rows in data.rows.values() for answers in rows["answers"])
        for split in ("val", "test"):
            metric = SquadMetrics(version="2.0" if unanswered else "1.1", longest=self.longest)
            rows = data.rows.get(split)
            if rows:
                metric.questions = [
                    Question(context, tuple(answer["text"] for answer in answers))
                    for context, answers in zip(rows["context"], rows["answers"], strict=True)
                ]
            self.measured[f"{split}_"] = metric

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = span_loss(head_output(self.net, batch), batch["start"], batch["end"], batch["valid"])
        self.average(loss, batch["start"])
        return loss

    def on_validation_epoch_end(self) -> None:
        if "val" in self.evaluated:
            self.threshold.fill_(self.metric("val").compute().get("best_threshold", 0.0))
        super().on_validation_epoch_end()

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self.metric("test").threshold = float(self.threshold)

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        start, end = head_output(self.net, batch).float().unbind(-1)
        self.metric(split).update(
            start,
            end,
            inside=batch["inside"],
            offsets=batch["offsets"],
            index=batch["index"],
            question=batch["question"],
        )
