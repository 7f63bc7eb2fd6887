"""Figures of extractive question answering, computed as in SQuAD's official scripts.

Rajpurkar et al. 2016 (v1.1, section 6.1) and 2018 (v2.0, section 5). Both compare answers in lower case, without ASCII
punctuation, English articles and surplus white space, and use the best of the given answers. They differ where an
answer is empty after that: in v1.1 no word is shared, so that F1 is 0 even if both are empty; v2.0 drops such answers,
expects the empty answer where none is left, and gives 1 where both are empty.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from string import punctuation
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from tfcli.metrics.gathered import Gathered
from tfcli.metrics.info import Declared, FigureInfo
from tfcli.metrics.intervals import Figure, Figures, mean, wilson
from tfcli.shapes import Bool, Float, Int

ARTICLES = re.compile(r"\b(a|an|the)\b")
SIGNS = str.maketrans("", "", punctuation)
LONGEST = 30
"""Default limit on the number of tokens of an answer."""


@dataclass(frozen=True)
class Question:
    """The context of a question and its correct answers; no answers where the context does not answer it."""

    context: str
    answers: tuple[str, ...]


def normalised(text: str) -> str:
    """Return a text in lower case, without ASCII punctuation and articles, with single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(SIGNS)).split())


def exact_match(guess: str, answers: Sequence[str], *, version: str = "1.1") -> float:
    """Return 1 if the guess equals one of the answers, else 0."""
    return float(normalised(guess) in _normalised_answers(answers, version))


def f1(guess: str, answers: Sequence[str], *, version: str = "1.1") -> float:
    """Return the best F1 over the answers, of the words that guess and answer share (with repetitions)."""
    words = normalised(guess).split()
    return max((_f1(words, answer.split(), version) for answer in _normalised_answers(answers, version)), default=0.0)


def _normalised_answers(answers: Sequence[str], version: str) -> list[str]:
    texts = [normalised(answer) for answer in answers]
    return texts if version == "1.1" else [text for text in texts if text] or [""]


def _f1(guess: list[str], answer: list[str], version: str) -> float:
    if version != "1.1" and not (guess and answer):
        return float(guess == answer)
    same = sum((Counter(guess) & Counter(answer)).values())
    return 2 * same / (len(guess) + len(answer)) if same else 0.0


def best_threshold(
    score: Float[np.ndarray, "N"], none: Float[np.ndarray, "N"], answered: Bool[np.ndarray, "N"]
) -> tuple[Float[np.ndarray, "N"], float]:
    """Return the scores at the best threshold for "no answer", and this threshold.

    Args:
        score: score of each question if its span is predicted.
        none: score of "no answer"; above the threshold no span is predicted.
        answered: whether there is an answer.
    """
    order = np.argsort(none, kind="stable")
    running = (score - ~answered)[order].cumsum()
    best = int(running.argmax())
    spans = np.zeros(len(score), bool)
    if running[best] > 0:
        spans[order[: best + 1]] = True
    # If no span at all is best, the script's threshold is 0.
    return np.where(spans, score, ~answered), float(none[order[best]]) if spans.any() else 0.0


def best_spans(
    start: Float[Tensor, "B N"], end: Float[Tensor, "B N"], inside: Bool[Tensor, "B N"], *, longest: int = LONGEST
) -> tuple[Float[Tensor, "B"], Int[Tensor, "B"], Int[Tensor, "B"]]:
    """Return the allowed span with the highest sum of start and end score (Devlin et al. 2019, section 4.2).

    BERT's script considers the 20 best starts and ends only.

    Args:
        start, end: scores of each token as the first or last of the answer.
        inside: tokens that may be in the answer; at least one in each row.
        longest: largest number of tokens of an answer.

    Returns:
        the scores, and the indices of the first and last tokens.
    """
    start, end = (x.float().masked_fill(~inside, -torch.inf) for x in (start, end))
    last = pad(end, (0, longest - 1), value=-torch.inf).unfold(1, longest, 1).max(2)  # for each first token
    score, first = (start + last.values).max(1)
    return score, first, first + last.indices.gather(1, first[:, None])[:, 0]


class SquadMetrics(Gathered):
    """Exact match and F1 of spans chosen by start and end scores, over windows of long contexts.

    The answer to a question is the best span of all its windows, as written in the context. In v2.0 the answer is empty
    where the smallest null score of the windows exceeds the best span's score by more than `threshold`. There are also
    the figures of questions with and without an answer, and those at the best threshold on the same data.

    Args:
        version: 1.1 or 2.0.
        longest: largest number of tokens of an answer.

    Attributes:
        questions: questions of the split, by the index `question` of the batches; set before measuring.
        threshold: threshold chosen on other data.
    """

    def __init__(self, *, version: str = "1.1", longest: int = LONGEST):
        super().__init__()
        if version not in ("1.1", "2.0"):
            raise ValueError(f"`version` must be 1.1 or 2.0, but is {version!r}.")
        self.version, self.longest = version, longest
        self.questions: Sequence[Question] = ()
        self.threshold = 0.0

    @property
    def declared(self) -> Declared:
        """Title and direction of each figure; in v2.0 also those of questions with and without an answer."""
        whole = {"exact_match": FigureInfo("exact match"), "f1": FigureInfo("F1")}
        if self.version != "2.0":
            return whole
        best = {name: FigureInfo(name.replace("_", " ")) for name in ("best_exact_match", "best_f1", "best_threshold")}
        parts = [(name, which) for name in whole for which in ("has_answer", "no_answer")]
        return whole | best | {f"{n}_{w}": FigureInfo(f"{n} {w}".replace("_", " ")) for n, w in parts}

    def update(
        self,
        start: Float[Tensor, "B N"],
        end: Float[Tensor, "B N"],
        *,
        inside: Bool[Tensor, "B N"],
        offsets: Int[Tensor, "B N 2"],
        index: Int[Tensor, "B"],
        question: Int[Tensor, "B"],
    ) -> None:
        """Add windows.

        Args:
            start, end: scores; those of the first token, [CLS], are the scores of "no answer".
            inside: tokens of the context that may be in an answer. BERT allows a token only in the window in which it
                has the most context on both sides.
            offsets: characters [begin, stop) of the context for each token.
            index: indices of the windows.
            question: index of each window's question.
        """
        score, first, last = best_spans(start, end, inside, longest=self.longest)
        rows = torch.arange(len(start), device=start.device)
        null = (start[:, 0] + end[:, 0]).float()
        columns = (question, score, offsets[rows, first, 0], offsets[rows, last, 1], null)
        self.keep(index, zip(*(column.tolist() for column in columns), strict=True))

    def answers(self, rows: list[Any]) -> dict[int, tuple[str, float]]:
        """Return for each question its best span, and the difference of its null score and the span's score."""
        best: dict[int, tuple[float, int, int]] = {}
        nulls: dict[int, float] = {}
        for question, score, begin, stop, null in rows:
            if question not in best or score > best[question][0]:
                best[question] = (score, begin, stop)
            nulls[question] = min(null, nulls.get(question, null))
        return {
            question: (self.questions[question].context[begin:stop], nulls[question] - score)
            for question, (score, begin, stop) in sorted(best.items())
        }

    def figures(self, rows: list[Any], *, intervals: bool) -> Figures:
        found = self.answers(rows)
        guesses, none = [guess for guess, _ in found.values()], np.array([odds for _, odds in found.values()])
        answers = [self.questions[question].answers for question in found]
        return score_answers(guesses, answers, version=self.version, none=none, threshold=self.threshold)


def score_answers(
    guesses: Sequence[str],
    answers: Sequence[Sequence[str]],
    *,
    version: str = "1.1",
    none: Float[np.ndarray, "N"] | None = None,
    threshold: float = 0.0,
) -> Figures:
    """Return the scripts' figures as fractions, with 95 % intervals that treat questions as independent.

    Args:
        guesses: predicted answer to each question.
        answers: correct answers to each question.
        version: 1.1, where every question has an answer, or 2.0.
        none: score of "no answer"; None: the guesses are used unchanged.
        threshold: value of `none` above which the answer is empty.
    """
    exact = np.array([exact_match(g, a, version=version) for g, a in zip(guesses, answers, strict=True)])
    shared = np.array([f1(g, a, version=version) for g, a in zip(guesses, answers, strict=True)])
    if version == "1.1":
        return {"f1": mean(shared, low=0, high=1), "exact_match": _share(exact)}
    answered = np.array([_normalised_answers(a, version) != [""] for a in answers])
    empty = np.zeros(len(guesses), bool) if none is None else none > threshold
    scores = {name: np.where(empty, ~answered, x) for name, x in (("f1", shared), ("exact_match", exact))}
    figures = {"f1": mean(scores["f1"], low=0, high=1), "exact_match": _share(scores["exact_match"])}
    for which, rows in (("has_answer", answered), ("no_answer", ~answered)):
        if rows.any():
            figures[f"f1_{which}"] = mean(scores["f1"][rows], low=0, high=1)
            figures[f"exact_match_{which}"] = _share(scores["exact_match"][rows])
    if none is not None:
        has_guess = np.array([bool(guess) for guess in guesses])
        for name, score in (("exact_match", exact), ("f1", shared)):
            best, at = best_threshold(np.where(answered, score, ~has_guess), none, answered)
            figures[f"best_{name}"] = mean(best, low=0, high=1)
        figures["best_threshold"] = (at, (at, at))  # of F1
    return figures


def _share(hits: np.ndarray) -> Figure:
    return float(np.mean(hits)), wilson(int(hits.sum()), len(hits))
