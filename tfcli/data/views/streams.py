"""View of running text for causal language models: one stream of tokens, cut into windows of equal length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tfcli.data.common.counter_rng import below, hash64
from tfcli.data.common.rows import Columns, padded
from tfcli.data.texts.sequences import Sequences
from tfcli.errors import DataError
from tfcli.text.tokenizer import Tokenizer


class Windows:
    """View of documents joined by end-of-text tokens and cut into windows without padding (Radford et al. 2019).

    Evaluation scores every token once, and a window does not see the text before it. In training the windows are
    shifted by a random offset in each epoch, so that the same tokens do not always stand at a window's edge.

    Args:
        packed: whether documents are joined; if False, each document is a sample, padded to the longest of its batch.
    """

    reads_text = True

    def __init__(self, *, packed: bool = True):
        self.packed = packed
        self.unit = "windows" if packed else "texts"

    def encode(self, rows: Columns, tokenizer: Tokenizer, *, length: int | None, train: bool) -> Stream | Documents:
        """Return the documents of one split as a stream of tokens, or one by one.

        Raises:
            DataError: the text is shorter than a window, or the length of a window is not given.
        """
        if not self.packed:
            return Documents(rows["text"], tokenizer, length=length)
        if length is None:
            raise DataError("a stream of text needs `model.context` or `data.max_length`: how long its windows are.")
        return Stream(rows["text"], tokenizer, length=length, train=train)


class Stream(Sequences):
    """Tokens of all documents in sequence, with the number of characters, bytes and words that each token adds.

    Args:
        texts: the documents.
        tokenizer: the model's tokenizer; its end-of-text token, if it has one, follows each document.
        length: number of tokens N in a window.
        train: whether the windows are shifted by a random offset in each epoch.

    Raises:
        DataError: there is too little text for one window.
    """

    def __init__(self, texts: list[str], tokenizer: Tokenizer, *, length: int, train: bool):
        self.length, self.train = length, train
        documents = list(_documents(texts, tokenizer))
        # One end-of-text token separates two documents; another stands before the first document.
        later = 1 if tokenizer.eos_id is not None else 0
        parts = [(ids[later * (i > 0) :], sizes[later * (i > 0) :]) for i, (ids, sizes) in enumerate(documents)]
        self.ids = np.concatenate([ids for ids, _ in parts]) if parts else np.zeros(0, dtype=np.int64)
        self.sizes = np.concatenate([sizes for _, sizes in parts]) if parts else np.zeros((0, 3), dtype=np.int64)
        if len(self.ids) < 2:
            raise DataError("there is no text to make windows of.")
        if train and len(self.ids) <= length:
            raise DataError(f"the training text has {len(self.ids):,} tokens, less than one window of {length + 1}.")
        total = len(self.ids) - 1
        count = max(1, total // length - 1) if train else -(-total // length)
        self.room = total - count * length if train else 0  # largest offset of the training windows
        self.starts = np.arange(count) * length
        self.lengths = np.minimum(length, total - self.starts)

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Tensor]:
        """Return windows (B, N) and the next token of each position; `target` is -100 after the end of the text."""
        starts, lengths = self.starts[rows], self.lengths[rows]
        if self.train:
            starts = starts + below(hash64(seed, "windows", epoch), self.room + 1)
        columns = np.arange(int(lengths.max()))
        places = np.minimum(starts[:, None] + columns, len(self.ids) - 2)
        inside = columns < lengths[:, None]
        sizes = np.where(inside[:, :, None], self.sizes[places + 1], 0).sum(1)
        return _batch(self.ids[places], np.where(inside, self.ids[places + 1], -100), sizes, rows)


class Documents(Sequences):
    """Documents as separate samples: a start token, the text and an end token.

    Args:
        texts: the documents.
        tokenizer: the model's tokenizer.
        length: largest number of tokens in a sample; longer documents are truncated.
    """

    def __init__(self, texts: list[str], tokenizer: Tokenizer, *, length: int | None):
        most = None if length is None else length + 1  # the last token is only a target
        whole = list(_documents(texts, tokenizer))
        self.cut = sum(most is not None and len(ids) > most for ids, _ in whole)
        self.ids = [ids[:most] for ids, _ in whole]
        self.sizes = [sizes[:most] for _, sizes in whole]
        self.pad = tokenizer.pad_id or 0
        self.lengths = np.array([max(0, len(ids) - 1) for ids in self.ids], dtype=np.int64)

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Tensor]:
        """Return texts (B, N), padded on the right, and the next token of each position."""
        ids = [self.ids[row] for row in rows]
        sizes = np.stack([self.sizes[row][1:].sum(0) for row in rows])
        return _batch(padded([i[:-1] for i in ids], self.pad), padded([i[1:] for i in ids], -100), sizes, rows)


def _batch(tokens: np.ndarray, target: np.ndarray, sizes: np.ndarray, rows: np.ndarray) -> dict[str, Tensor]:
    arrays = {"tokens": tokens, "target": target, "chars": sizes[:, 0], "bytes": sizes[:, 1], "words": sizes[:, 2]}
    return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in {**arrays, "index": rows}.items()}


def _documents(texts: list[str], tokenizer: Tokenizer) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the token ids (N,) of each text, and the characters, bytes and words (N, 3) that each token adds.

    Where the vocabulary has an end-of-text token, it stands after the text, and the start token (or the end-of-text
    token again, where there is no start token) stands before it.
    """
    end = tokenizer.eos_id
    begin = end if tokenizer.bos_id is None else tokenizer.bos_id
    none = np.zeros((1, 3), dtype=np.int64)
    for text, (tokens, spans) in zip(texts, tokenizer.encode_offsets(texts), strict=True):
        sizes = _sizes(text, np.array([stop for _, stop in spans], dtype=np.int64))
        if end is None:
            yield np.array(tokens, dtype=np.int64), sizes
        else:
            yield np.array([begin, *tokens, end], dtype=np.int64), np.concatenate([none, sizes, none])


def _sizes(text: str, stops: np.ndarray) -> np.ndarray:
    """Return the characters, bytes and words (N, 3) that each token adds; `stops` are the tokens' ends in the text.

    Text between two tokens counts for the second, and text after the last token for the last, so that the sums are
    those of the whole text.
    """
    letters = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    wide = 1 + (letters >= 0x80).astype(np.int64) + (letters >= 0x800) + (letters >= 0x10000)
    blank = np.array([letter.isspace() for letter in text], dtype=bool)
    begins = ~blank & np.concatenate([[True], blank[:-1]]) if len(text) else blank
    running = np.stack([np.ones_like(wide), wide, begins.astype(np.int64)], 1).cumsum(0)
    running = np.concatenate([np.zeros((1, 3), dtype=np.int64), running])
    if not len(stops):
        return np.zeros((0, 3), dtype=np.int64)
    stops = np.maximum.accumulate(stops)
    stops[-1] = len(text)
    return np.diff(running[stops], axis=0, prepend=0)
