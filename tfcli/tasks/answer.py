"""The answer to a question about an image, chosen among the answers that a set has."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.bounds import Count, Rate
from tfcli.data.common.picked import taken
from tfcli.data.module import DataModule
from tfcli.metrics.classification import ClassificationMetrics
from tfcli.shapes import Bool, Float, Int
from tfcli.tasks.baselines.classes import class_guesses
from tfcli.tasks.choosing import ClassChoice


class QuestionAnswerer(Protocol):
    """Images and questions in, one score an answer out."""

    def answer(
        self, image: Float[Tensor, "B C Y X"], tokens: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B K"]: ...


class AnswerQuestions(ClassChoice):
    """Trains and measures the choice of an answer.

    Logs train/loss; under val/ and test/ what `ClassificationMetrics` computes.

    Args:
        net: `net.answer(image, tokens, valid)` gives logits (B, K).
        num_classes: K.
        optim: makes an optimizer, called as `optim(net)`.
        schedule: the learning rate's factor, called as `schedule(step, total=..., epoch=...)`.
        label_smoothing: in the training loss only.
    """

    net_protocol = QuestionAnswerer
    main_figure = "accuracy"
    next_command = "tfcli evaluate latest"

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: Count,
        optim: Callable[..., torch.optim.Optimizer],
        schedule: Callable[..., float],
        label_smoothing: Rate = 0.0,
    ):
        super().__init__(net, optim=optim, schedule=schedule)
        self.label_smoothing = label_smoothing
        self.measured = nn.ModuleDict({split: ClassificationMetrics(num_classes) for split in ("val_", "test_")})

    def guesses(self, data: DataModule) -> dict[str, float]:
        """Measure chance, the commonest answer, and the commonest answer to the same question."""
        (asked, train), (told, test) = (
            (taken(data.rows[split]["question"]), np.array(taken(data.rows[split]["answer"])))
            for split in ("train", "test")
        )
        found = class_guesses(self.metric("test"), train, test)
        guess = blind_guesses(asked, train, told)
        return found | {"commonest answer to the same question/accuracy": float((guess == test).mean())}

    def scores(self, batch: dict[str, Tensor]) -> Float[Tensor, "B K"]:
        """Logits of a batch."""
        return cast(QuestionAnswerer, self.net).answer(batch["image"], batch["tokens"], batch["valid"]).float()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = cross_entropy(self.scores(batch), batch["answer"], label_smoothing=self.label_smoothing)
        self.average(loss, batch["answer"])
        return loss

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        logits, answer = self.scores(batch), batch["answer"]
        self.metric(split).update(logits, answer, cross_entropy(logits, answer, reduction="none"))
        self.keep(split, batch["index"], answer, logits)


def blind_guesses(asked: list[str], answers: np.ndarray, told: list[str]) -> np.ndarray:
    """Return for each question `told` the commonest answer that training gives to it, whatever the image shows.

    To a question that training never asks, it is the commonest answer of all.

    Args:
        asked, answers: of training.
        told: to be answered.
    """
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for question, answer in zip(asked, answers.tolist(), strict=True):
        counts[question][answer] += 1
    commonest = Counter(answers.tolist()).most_common(1)[0][0]
    known = {question: counter.most_common(1)[0][0] for question, counter in counts.items()}
    return np.array([known.get(question, commonest) for question in told])
