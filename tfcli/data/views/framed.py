"""Views of labelled texts with the model's special tokens: sentences, pairs, choices, tagged words, answer spans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tfcli.bounds import Count
from tfcli.data.common.rows import Columns, padded
from tfcli.data.texts.sequences import Sequences
from tfcli.errors import ConfigError
from tfcli.text.frames import Frame, Framed
from tfcli.text.tokenizer import Tokenizer


class Labelled:
    """View of texts, or pairs of texts, each with a class or a score.

    Args:
        framing: layout of the special tokens, cls or start; see `tfcli.text.frames`.
        both_orders: read each pair in both orders, as GPT-1 does for similarity (Radford et al. 2018, section 3.3);
            only with the layout `start`.

    Raises:
        ConfigError: `both_orders` with another layout.
    """

    unit, reads_text = "texts", True

    def __init__(self, *, framing: str = "cls", both_orders: bool = False):
        if both_orders and framing != "start":
            raise ConfigError("`task.view.both_orders` is for models whose layout is `start`, as GPT.")
        self.framing, self.both_orders = framing, both_orders

    def encode(self, rows: Columns, tokenizer: Tokenizer, *, length: int | None, train: bool) -> Samples:
        frame = Frame(tokenizer, self.framing, length)
        texts = tokenizer.encode(rows["text"])
        pairs: Sequence[list[int] | None] = tokenizer.encode(rows["pair"]) if "pair" in rows else [None] * len(texts)
        samples = [[frame.pair(a, b)] for a, b in zip(texts, pairs, strict=True)]
        if self.both_orders and "pair" in rows:
            for sample, a, b in zip(samples, texts, pairs, strict=True):
                sample.append(frame.pair(b or [], a))
        return Samples(samples, rows, frame, cut=frame.cut)


class Choices:
    """View of multiple choice: a context and several continuations, one of them right (Radford et al. 2018, 3.3)."""

    unit, reads_text = "questions", True

    def __init__(self, *, framing: str = "cls"):
        self.framing = framing

    def encode(self, rows: Columns, tokenizer: Tokenizer, *, length: int | None, train: bool) -> Samples:
        frame = Frame(tokenizer, self.framing, length)
        contexts = tokenizer.encode(rows["context"])
        samples = [
            [frame.pair(context, choice) for choice in tokenizer.encode(choices)]
            for context, choices in zip(contexts, rows["choices"], strict=True)
        ]
        return Samples(samples, rows, frame, cut=frame.cut)


class Tagged:
    """View of tagged words; the tag is predicted at the first token of each word (Devlin et al. 2019, section 5.3)."""

    unit, reads_text = "sentences", True

    def __init__(self, *, framing: str = "cls"):
        self.framing = framing

    def encode(self, rows: Columns, tokenizer: Tokenizer, *, length: int | None, train: bool) -> Samples:
        frame = Frame(tokenizer, self.framing, length)
        samples, targets = [], []
        for words, tags in zip(rows["words"], rows["tags"], strict=True):
            ids, owners = tokenizer.encode_words(words)
            framed = frame.pair(ids, None)
            firsts = [i == 0 or owners[i - 1] != owner for i, owner in enumerate(owners)]
            target = [tags[owner] if first else -100 for owner, first in zip(owners, firsts, strict=True)]
            kept = framed.first[1] - framed.first[0]
            samples.append([framed])
            targets.append([-100] * framed.first[0] + target[:kept] + [-100] * (len(framed.ids) - framed.first[1]))
        return Samples(samples, {}, frame, cut=frame.cut, targets=targets)


class Spans:
    """View of extractive question answering: a question and its context; long contexts are read in windows.

    In a window that does not contain the whole answer, the target is the window's first token, as for a question
    without an answer (Devlin et al. 2019, section 4.3). A token in several windows is scored in the window that gives
    it the most context. Every token of a context is in a window: where a window has less room than `stride`, the next
    one begins where it ends.

    Args:
        framing: layout of the special tokens; it must be cls.
        stride: distance between the beginnings of two windows, in tokens.
        question_length: largest number of tokens of a question, at most half of a window; the rest is truncated.

    Raises:
        ConfigError: another layout, or a number below 1.
    """

    unit, reads_text = "windows", True

    def __init__(self, *, framing: str = "cls", stride: Count = 128, question_length: Count = 64):
        if framing != "cls":
            raise ConfigError(
                "`task=span` needs a bidirectional model, such as BERT: the layout of this one is not `cls`."
            )
        for name, value in (("stride", stride), ("question_length", question_length)):
            if value < 1:
                raise ConfigError(f"`task.view.{name}` must be at least 1, but is {value}.")
        self.framing, self.stride, self.question_length = framing, stride, question_length

    def encode(self, rows: Columns, tokenizer: Tokenizer, *, length: int | None, train: bool) -> Samples:
        frame = Frame(tokenizer, self.framing, length)
        asked = self.question_length if length is None else min(self.question_length, (length - MARKED) // 2)
        if asked < 1:
            raise ConfigError(
                f"a window of {length} tokens has no room for a question and a part of its text; "
                f"set data.max_length to {MARKED + 2} or more."
            )
        questions = [ids[:asked] for ids in tokenizer.encode(rows["question"])]
        samples: list[list[Framed]] = []
        more: dict[str, list[Any]] = {"start": [], "end": [], "inside": [], "offsets": [], "question": []}
        contexts = tokenizer.encode_offsets(rows["context"])
        for number, (question, (ids, spans), answers) in enumerate(
            zip(questions, contexts, rows["answers"], strict=True)
        ):
            room = max(1, len(ids)) if length is None else length - len(question) - MARKED
            step = min(self.stride, room)
            begins = [0, *range(step, max(1, len(ids) - room + step), step)]
            answer = _tokens_of(answers[0], spans) if answers else None
            for begin in begins:
                part = ids[begin : begin + room]
                framed = frame.pair(question, part)
                first = framed.second[0]
                samples.append([framed])
                whole = answer is not None and begin <= answer[0] and answer[1] < begin + len(part)
                start, end = (first + token - begin for token in answer) if answer and whole else (0, 0)
                more["start"].append(start)
                more["end"].append(end)
                owned = [_owner(begin + i, begins, room, len(ids)) == begin for i in range(len(part))]
                more["inside"].append([False] * first + owned + [False] * (len(framed.ids) - first - len(part)))
                where = [(0, 0)] * first + list(spans[begin : begin + len(part)])
                more["offsets"].append(where + [(0, 0)] * (len(framed.ids) - len(where)))
                more["question"].append(number)
        return Samples(samples, more, frame, cut=0)


MARKED = 3
"""Number of special tokens around a question and its context: [CLS] and two [SEP]."""


def _tokens_of(answer: dict[str, Any], spans: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the first and the last token of an answer; None where no token covers any of its characters.

    Characters at the ends of an answer may belong to no token (spaces, zero-width characters); these are ignored.
    """
    text, start = answer["text"], answer["start"]
    low, high = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    inside = [i for i, (begin, end) in enumerate(spans) if end > low and begin < high]
    return (inside[0], inside[-1]) if inside else None


def _owner(token: int, begins: Sequence[int], room: int, total: int) -> int:
    """Return the beginning of the window in which the token has the most context on its shorter side."""

    def context(begin: int) -> tuple[float, int]:
        stop = min(begin + room, total)
        if not begin <= token < stop:
            return -1.0, 0
        return min(token - begin, stop - 1 - token) + 0.01 * (stop - begin), -begin

    return max(begins, key=context)


class Samples(Sequences):
    """Token sequences of one split and their targets.

    Args:
        samples: the sequences of each sample; every sample has the same number of sequences.
        rows: columns that go into the batches: label, score, group; start, end, question; inside, offsets.
        frame: the frame that added the special tokens.
        cut: the number of truncated samples.
        targets: the target of each token of each sample; -100 is ignored by the loss.
    """

    def __init__(
        self,
        samples: list[list[Framed]],
        rows: Columns,
        frame: Frame,
        *,
        cut: int,
        targets: list[list[int]] | None = None,
    ):
        self.samples, self.targets, self.pad, self.cut = samples, targets, frame.pad, cut
        self.rows = {name: rows[name] for name in BATCHED if name in rows}
        self.segmented = frame.segmented
        self.token_mean = targets is not None
        self.several = len(samples[0]) if samples and len(samples[0]) > 1 else 0
        self.lengths = np.array([sum(len(framed.ids) for framed in sample) for sample in samples], dtype=np.int64)

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Tensor]:
        """Return tokens and valid, (B, N) or (B, C, N) for C sequences per sample; segments with the layout `cls`."""
        chosen = [framed for row in rows for framed in self.samples[row]]
        arrays = {"tokens": padded([np.array(f.ids) for f in chosen], self.pad)}
        arrays["valid"] = padded([np.ones(len(f.ids), bool) for f in chosen], False)
        if self.segmented:
            arrays["segments"] = padded([np.array(f.segments) for f in chosen], 0)
        if self.several:
            arrays = {name: a.reshape(len(rows), self.several, -1) for name, a in arrays.items()}
        if self.targets is not None:
            arrays["target"] = padded([np.array(self.targets[row]) for row in rows], -100)
        for name, column in self.rows.items():
            picked = [column[row] for row in rows]
            if name == "inside":
                arrays[name] = padded([np.array(p, bool) for p in picked], False)
            elif name == "offsets":
                ends = [padded([np.array(p, np.int64)[:, side] for p in picked], 0) for side in (0, 1)]
                arrays[name] = np.stack(ends, -1)
            else:
                arrays[name] = np.array(picked, dtype=np.float32 if name == "score" else np.int64)
        return {name: torch.from_numpy(a) for name, a in {**arrays, "index": rows}.items()}


BATCHED = ("label", "score", "group", "start", "end", "question", "inside", "offsets")
