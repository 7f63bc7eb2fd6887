"""Rows of text put into words: instruction, demonstrations, question (Brown et al. 2020, section 2.4). No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from tfcli.errors import ConfigError, nearest

QUESTIONS = (
    ({"question", "context"}, "{context}\nQuestion: {question}\nAnswer:"),
    ({"context", "choices"}, "{context}"),
    ({"source", "target"}, "{source} =>"),
    ({"text", "pair"}, "{text}\n{pair}\nLabel:"),
    ({"text"}, "{text}\nLabel:"),
)
"""Default prompts: the first whose columns the row has is used."""


@dataclass(frozen=True)
class Prompt:
    """A template that turns a row into a prompt and its answer.

    Attributes:
        instruction: what comes before everything; may be empty.
        question: a row without its answer, with its columns in braces.
        answer: what an answer looks like behind its question, with `{answer}`.
        separator: between demonstrations, and what ends an answer.
        labels: a word for each class.
    """

    question: str
    instruction: str = ""
    answer: str = " {answer}"
    separator: str = "\n\n"
    labels: tuple[str, ...] = ()

    def ask(self, row: Mapping[str, Any]) -> str:
        """Return a row as it is asked, without its answer."""
        return self.question.format(**row)

    def tell(self, answer: str) -> str:
        """Return an answer as it stands in the prompt."""
        return self.answer.format(answer=answer)

    def whole(self, demonstrations: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> str:
        """Return the instruction, the demonstrations with their answers, and the row without."""
        shown = [self.ask(d) + self.tell(self.right(d)) for d in demonstrations]
        return self.separator.join([*([self.instruction] if self.instruction else []), *shown, self.ask(row)])

    def right(self, row: Mapping[str, Any]) -> str:
        """Return the right answer of a row."""
        if "choices" in row:
            return str(row["choices"][row["label"]])
        if "label" in row:
            return self.labels[row["label"]]
        if "answers" in row:
            return row["answers"][0]["text"] if row["answers"] else "unanswerable"
        return str(row["target"] if "target" in row else row["score"])

    def candidates(self, row: Mapping[str, Any]) -> Sequence[str] | None:
        """Return the answers to choose from; None where any text is an answer."""
        return row.get("choices") or (self.labels if "label" in row else None)


def make_prompt(columns: Sequence[str], classes: Sequence[str], asked: Mapping[str, Any]) -> Prompt:
    """Return the prompt of a set.

    Args:
        columns: of its rows.
        classes: names of its labels.
        asked: what its config or the user says, in place of the usual; nulls say nothing.

    Raises:
        ConfigError: there is no such part, a class without a word, or a column that the set does not have.
    """
    given = {key: value for key, value in asked.items() if value is not None}
    parts = list(Prompt.__dataclass_fields__)
    for key in given:
        if key not in parts:
            raise ConfigError(f"`data.prompt.{key}` is no part of a prompt.{nearest(key, parts)}")
    usual = next((text for needed, text in QUESTIONS if needed <= set(columns)), None)
    labels = tuple(given.pop("labels", classes))
    if len(labels) != len(classes):
        raise ConfigError(f"`data.prompt.labels` has {len(labels)} words for {len(classes)} classes.")
    question = given.pop("question", usual)
    if question is None:
        raise ConfigError(
            f"these columns are not asked about by themselves: {', '.join(columns)}. Set data.prompt.question."
        )
    for _, name, _, _ in Formatter().parse(question):
        if name is not None and name not in columns:
            raise ConfigError(
                f"`data.prompt.question` names `{name}`.{nearest(name, columns)} There are {', '.join(columns)}."
            )
    return Prompt(question, labels=labels, **given)
