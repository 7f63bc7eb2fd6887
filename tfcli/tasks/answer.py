"""Visual question answering: the answer to a question about an image, chosen among the answers of a data set."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Protocol, cast

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.bounds import Count, Rate
from tfcli.data.common.rows import taken
from tfcli.data.module import DataModule
from tfcli.metrics.classification import ClassificationMetrics
from tfcli.shapes import Bool, Float, Int
from tfcli.tasks.baselines.classes import class_guesses
from tfcli.tasks.objective import ClassChoice


class QuestionAnswerer(Protocol):
    """A model that maps images and questions to a score for each answer."""

    def answer(
        self, image: Float[Tensor, "B C Y X"], tokens: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B K"]: ...


class AnswerQuestions(ClassChoice):
    """Visual question answering as classification of answers.

    Logs train/loss, and under val/ and test/ the figures of `ClassificationMetrics`.

    Args:
        net: model whose `answer(image, tokens, valid)` returns logits (B, K).
        num_classes: K, the number of answers.
        label_smoothing: label smoothing of the training loss.
        objective: as in `Objective`.
    """

    net_protocol = QuestionAnswerer
    main_figure = "accuracy"
    next_command = "tfcli evaluate latest"

    def __init__(self, net: nn.Module, *, num_classes: Count, label_smoothing: Rate = 0.0, **objective: Any):
        super().__init__(net, **objective)
        self.label_smoothing = label_smoothing
        self.measured = nn.ModuleDict({split: ClassificationMetrics(num_classes) for split in ("val_", "test_")})

    def guesses(self, data: DataModule) -> dict[str, float]:
        """Measure chance, the most frequent answer, and the most frequent answer to the same question."""
        (train_questions, train), (test_questions, test) = (
            (taken(data.rows[split]["question"]), np.array(taken(data.rows[split]["answer"])))
            for split in ("train", "test")
        )
        found = class_guesses(self.metric("test"), train, test)
        guess = blind_guesses(train_questions, train, test_questions)
        return found | {"commonest answer to the same question/accuracy": float((guess == test).mean())}

    def scores(self, batch: dict[str, Tensor]) -> Float[Tensor, "B K"]:
        """Return the logits of a batch."""
        return cast(QuestionAnswerer, self.net).answer(batch["image"], batch["tokens"], batch["valid"]).float()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = cross_entropy(self.scores(batch), batch["answer"], label_smoothing=self.label_smoothing)
        self.average(loss, batch["answer"])
        return loss

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        logits, answer = self.scores(batch), batch["answer"]
        self.metric(split).update(logits, answer, cross_entropy(logits, answer, reduction="none"))
        self.keep(split, batch["index"], answer, logits)


def blind_guesses(questions: list[str], answers: np.ndarray, test_questions: list[str]) -> np.ndarray:
    """Return for each test question its most frequent answer in training, without looking at the image.

    For a question that is not in the training set, it is the most frequent of all answers.

    Args:
        questions, answers: of the training set.
        test_questions: questions to answer.
    """
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for question, answer in zip(questions, answers.tolist(), strict=True):
        counts[question][answer] += 1
    most_frequent = Counter(answers.tolist()).most_common(1)[0][0]
    known = {question: counter.most_common(1)[0][0] for question, counter in counts.items()}
    return np.array([known.get(question, most_frequent) for question in test_questions])
