"""View of images with a question and its answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tfcli.data.common.rows import Columns, padded, taken
from tfcli.data.images.imageset import Images
from tfcli.text.frames import Frame
from tfcli.text.tokenizer import Tokenizer


class AnsweredQuestions:
    """View of visual questions: `{"image" (B, 3, Y, X), "tokens" (B, N), "valid" (B, N), "answer" (B), "index" (B)}`.

    The tokens are [CLS] question [SEP], padded to the longest question of the batch.
    """

    unit, reads_text = "questions", True

    def encode(self, rows: Columns, tokenizer: Tokenizer, *, length: int | None, train: bool) -> Asked:
        frame = Frame(tokenizer, "cls", length)
        tokens = [np.array(frame.pair(ids, None).ids) for ids in tokenizer.encode(taken(rows["question"]))]
        return Asked(rows["image"], tokens, np.array(taken(rows["answer"])), pad=frame.pad, cut=frame.cut)


class Asked:
    """Questions about images of one split.

    Args:
        image: the image of each question.
        tokens: the token ids of each question, including special tokens.
        answer: (N,) the answer to each question, as a class.
        pad: the padding token.
        cut: the number of truncated questions.
    """

    counted = "images"

    def __init__(self, image: Images, tokens: list[np.ndarray], answer: np.ndarray, *, pad: int, cut: int):
        self.image, self.tokens, self.answer, self.pad, self.cut = image, tokens, answer, pad, cut
        self.lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
        self.notes = list[str]()

    @property
    def in_memory(self) -> bool:
        return self.image.in_memory

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Any]:
        image, rows, bad = self.image.draw(rows, seed=seed, epoch=epoch)
        batch = {"image": image, **self._asked(rows)}
        return batch | {"bad": bad} if bad else batch

    def _asked(self, rows: np.ndarray) -> dict[str, Any]:
        tokens = [self.tokens[row] for row in rows]
        arrays = {
            "tokens": padded(tokens, self.pad),
            "valid": padded([np.ones(len(ids), bool) for ids in tokens], False),
            "answer": self.answer[rows],
            "index": rows,
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def blank(self, size: int, *, seed: int) -> dict[str, Any]:
        longest = np.argsort(-self.lengths, kind="stable")[:size]
        asked = self._asked(longest)
        return {"image": self.image.noise(len(longest), torch.Generator().manual_seed(seed)), **asked}
