"""Running text as one long row of tokens, cut into windows: what a causal language model is trained on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tfcli.data.hashing import below, hash64
from tfcli.data.textitems import Columns
from tfcli.errors import DataError
from tfcli.text.subwords import Subwords


class Windows:
    """Windows of a stream of documents, each followed by an end: no token is padding (Radford et al. 2019).

    Evaluation scores every token once, each window without what stands before it. Training windows begin elsewhere in
    each epoch, so that no token always stands at a window's edge.
    """

    unit = "windows"

    def encode(self, rows: Columns, tokenizer: Subwords, *, length: int | None, train: bool) -> Stream:
        """Documents as a stream of tokens.

        Raises:
            DataError: there is less text than a window.
        """
        if length is None:
            raise DataError("a stream of text needs `model.context`: how long its windows are.")
        return Stream(rows["text"], tokenizer, length=length, train=train)


class Stream:
    """Tokens of all documents in line, with how many characters, bytes and words each one completes.

    Args:
        texts: the documents.
        tokenizer: of the model; where it has an end of text, one stands before and after each document.
        length: N, tokens of a window.
        train: windows begin elsewhere in each epoch.
    """

    cut = 0

    def __init__(self, texts: list[str], tokenizer: Subwords, *, length: int, train: bool):
        self.length, self.train = length, train
        end = tokenizer.eos_id
        ids, sizes = [], []
        for text, (tokens, spans) in zip(texts, tokenizer.encode_offsets(texts), strict=True):
            if end is not None and not ids:
                ids.append(np.array([end]))
                sizes.append(np.zeros((1, 3), dtype=np.int64))
            ids.append(np.array([*tokens, *([] if end is None else [end])], dtype=np.int64))
            covered = _sizes(text, np.array([stop for _, stop in spans], dtype=np.int64))
            sizes.append(np.concatenate([covered, np.zeros((end is not None, 3), dtype=np.int64)]))
        self.ids = np.concatenate(ids) if ids else np.zeros(0, dtype=np.int64)
        self.sizes = np.concatenate(sizes) if sizes else np.zeros((0, 3), dtype=np.int64)
        if len(self.ids) < 2:
            raise DataError("there is no text to make windows of.")
        if train and len(self.ids) <= length:
            raise DataError(f"the training text has {len(self.ids):,} tokens, less than one window of {length + 1}.")
        total = len(self.ids) - 1
        count = max(1, total // length - 1) if train else -(-total // length)
        self.room = total - count * length if train else 0  # by which the windows can move together
        self.starts = np.arange(count) * length
        self.lengths = np.minimum(length, total - self.starts)

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Tensor]:
        """Windows (B, N) and what follows each of their tokens; `target` is -100 beyond the end of the text."""
        starts, lengths = self.starts[rows], self.lengths[rows]
        if self.train:
            starts = starts + below(hash64(seed, "windows", epoch), self.room + 1)
        columns = np.arange(int(lengths.max()))
        places = np.minimum(starts[:, None] + columns, len(self.ids) - 2)
        inside = columns < lengths[:, None]
        sizes = np.where(inside[:, :, None], self.sizes[places + 1], 0).sum(1)
        return {
            "tokens": torch.from_numpy(self.ids[places]),
            "target": torch.from_numpy(np.where(inside, self.ids[places + 1], -100)),
            "chars": torch.from_numpy(sizes[:, 0]),
            "bytes": torch.from_numpy(sizes[:, 1]),
            "words": torch.from_numpy(sizes[:, 2]),
            "index": torch.from_numpy(rows.astype(np.int64)),
        }


def _sizes(text: str, stops: np.ndarray) -> np.ndarray:
    """(N, 3) characters, bytes and words that each token adds, where tokens end at `stops` of the text.

    What lies between two tokens belongs to the second, and what follows the last to the last: all of the text counts.
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
