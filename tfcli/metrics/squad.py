"""Answers that are spans of a text, measured as the official scripts of SQuAD do.

Rajpurkar et al. 2016 (v1.1, section 6.1) and 2018 (v2.0, section 5). Both compare answers without capitals, ASCII
punctuation, English articles and surplus white space, and take the best over the answers given. They differ where
something is empty then: for v1.1 no word is shared, so F1 is 0 even if both are empty; v2.0 drops such answers, asks
for the empty one where none is left, and gives 1 where both are empty.
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

from tfcli.metrics.classification import wilson
from tfcli.metrics.gathered import Gathered
from tfcli.metrics.info import Declared, FigureInfo
from tfcli.metrics.intervals import Figure, Figures, mean
from tfcli.shapes import Bool, Float, Int

ARTICLES = re.compile(r"\b(a|an|the)\b")
SIGNS = str.maketrans("", "", punctuation)
LONGEST = 30  # tokens of an answer


@dataclass(frozen=True)
class Question:
    """A question's context and its right answers; no answers where the text does not answer it."""

    context: str
    answers: tuple[str, ...]


def normalised(text: str) -> str:
    """A text as answers are compared: lower case, without ASCII punctuation and articles, single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(SIGNS)).split())


def exact_match(guess: str, answers: Sequence[str], *, version: str = "1.1") -> float:
    """1 if the guess is one of the answers, else 0."""
    said = normalised(guess)
    return float(any(said == answer for answer in _right(answers, version)))


def f1(guess: str, answers: Sequence[str], *, version: str = "1.1") -> float:
    """The best F1 over the answers, of words in common, each as often as both have it."""
    said = normalised(guess).split()
    return max((_f1(said, answer.split(), version) for answer in _right(answers, version)), default=0.0)


def _right(answers: Sequence[str], version: str) -> list[str]:
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
    """Scores at the best threshold on how sure "no answer" is, and that threshold: above it nothing is said.

    Args:
        score: of each question if its guess is said.
        none: how sure of "no answer".
        answered: whether there is an answer.
    """
    order = np.argsort(none, kind="stable")
    running = (score - ~answered)[order].cumsum()
    best = int(running.argmax())
    said = np.zeros(len(score), bool)
    if running[best] > 0:
        said[order[: best + 1]] = True
    # To say nothing at all is best: the script calls that threshold 0.
    return np.where(said, score, ~answered), float(none[order[best]]) if said.any() else 0.0


def best_spans(
    start: Float[Tensor, "B N"], end: Float[Tensor, "B N"], inside: Bool[Tensor, "B N"], *, longest: int = LONGEST
) -> tuple[Float[Tensor, "B"], Int[Tensor, "B"], Int[Tensor, "B"]]:
    """The span with the highest start plus end score (Devlin et al. 2019, section 4.2), over all that are allowed.

    BERT's script looks at the 20 best starts and ends only.

    Args:
        start, end: scores of each token to be the first or the last of the answer.
        inside: tokens that may be in the answer; each row has one at least.
        longest: most tokens of an answer.

    Returns:
        the scores, the first and the last tokens.
    """
    start, end = (x.float().masked_fill(~inside, -torch.inf) for x in (start, end))
    last = pad(end, (0, longest - 1), value=-torch.inf).unfold(1, longest, 1).max(2)  # of every first token
    score, first = (start + last.values).max(1)
    return score, first, first + last.indices.gather(1, first[:, None])[:, 0]


class SquadMetrics(Gathered):
    """Exact match and F1 of spans chosen from start and end scores, over windows of long contexts.

    A question's answer is the best span of all its windows, cut from the context as it is written. Of v2.0 nothing is
    said where the least null score of its windows is above the best span's by more than `threshold`; there are then
    also the figures of questions with and without an answer, and those at the best threshold on these very data.

    Args:
        version: 1.1 or 2.0.
        longest: most tokens of an answer.

    Attributes:
        questions: of the split, by the index that batches call `question`; set before measuring.
        threshold: chosen on other data.
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
        """Return title and direction of each figure; of v2.0 also those of questions with and without an answer."""
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
            start, end: scores; those of the first token, [CLS], are of there being no answer.
            inside: tokens of the context that may be in an answer. BERT leaves a token to the window in which it has
                most context on both sides.
            offsets: characters [begin, stop) of the context that each token stands for.
            index: of the windows.
            question: that each belongs to.
        """
        score, first, last = best_spans(start, end, inside, longest=self.longest)
        rows = torch.arange(len(start), device=start.device)
        null = (start[:, 0] + end[:, 0]).float()
        columns = (question, score, offsets[rows, first, 0], offsets[rows, last, 1], null)
        self.keep(index, zip(*(column.tolist() for column in columns), strict=True))

    def answers(self, rows: list[Any]) -> dict[int, tuple[str, float]]:
        """Of each question its best span, and by how much its null score is above that."""
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
        """See `Gathered`."""
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
    """The scripts' figures, as fractions, with 95 % intervals that take questions for independent.

    Args:
        guesses: the answer to each question.
        answers: its right ones.
        version: 1.1, where every question has an answer, or 2.0.
        none: how sure of "no answer"; None: guesses are taken as they are.
        threshold: above it nothing is said.
    """
    exact = np.array([exact_match(g, a, version=version) for g, a in zip(guesses, answers, strict=True)])
    shared = np.array([f1(g, a, version=version) for g, a in zip(guesses, answers, strict=True)])
    if version == "1.1":
        return {"f1": mean(shared, low=0, high=1), "exact_match": _share(exact)}
    answered = np.array([_right(a, version) != [""] for a in answers])
    silent = np.zeros(len(guesses), bool) if none is None else none > threshold
    said = {name: np.where(silent, ~answered, x) for name, x in (("f1", shared), ("exact_match", exact))}
    figures = {"f1": mean(said["f1"], low=0, high=1), "exact_match": _share(said["exact_match"])}
    for which, rows in (("has_answer", answered), ("no_answer", ~answered)):
        if rows.any():
            figures[f"f1_{which}"] = mean(said["f1"][rows], low=0, high=1)
            figures[f"exact_match_{which}"] = _share(said["exact_match"][rows])
    if none is not None:
        spoken = np.array([bool(guess) for guess in guesses])
        for name, score in (("exact_match", exact), ("f1", shared)):
            best, at = best_threshold(np.where(answered, score, ~spoken), none, answered)
            figures[f"best_{name}"] = mean(best, low=0, high=1)
        figures["best_threshold"] = (at, (at, at))  # of F1
    return figures


def _share(hits: np.ndarray) -> Figure:
    return float(np.mean(hits)), wilson(int(hits.sum()), len(hits))
