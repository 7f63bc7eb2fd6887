"""View of running text for causal language models: one stream of tokens, cut into windows of equal length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tfcli.data.columns.filetext import FileText
from tfcli.data.common.counter_rng import below, hash64
from tfcli.data.common.rows import Columns, padded
from tfcli.data.texts.sequences import Sequences
from tfcli.data.texts.tokens import running_text
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

    def __init__(self, texts: Sequence[str | FileText], tokenizer: Tokenizer, *, length: int, train: bool):
        self.length, self.train = length, train
        self.tokens = running_text(texts, tokenizer)
        total = len(self.ids) - 1
        if total < 1:
            raise DataError("there is no text to make windows of.")
        if train and total < length:
            raise DataError(f"the training text has {total + 1:,} tokens, less than one window of {length + 1}.")
        count = max(1, total // length - 1) if train else -(-total // length)
        self.room = total - count * length if train else 0  # largest offset of the training windows
        self.lengths = np.full(count, length)
        self.lengths[-1] = min(length, total - (count - 1) * length)

    @property
    def ids(self) -> np.ndarray:
        """The tokens (N,), of any unsigned type."""
        return self.tokens["ids"]

    @property
    def sizes(self) -> np.ndarray:
        """The characters, bytes and words that each token adds (N, 3), of any unsigned type."""
        return self.tokens["sizes"]

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Tensor]:
        """Return windows (B, N) and the next token of each position; `target` is -100 after the end of the text."""
        starts, lengths = rows * self.length, self.lengths[rows]
        if self.train:
            starts = starts + below(hash64(seed, "windows", epoch), self.room + 1)
        columns = np.arange(int(lengths.max()))
        places = np.minimum(starts[:, None] + columns, len(self.ids) - 2)
        inside = columns < lengths[:, None]
        sizes = np.where(inside[:, :, None], self.sizes[places + 1], 0).sum(1, dtype=np.int64)
        return _batch(self.ids[places], np.where(inside, self.ids[places + 1].astype(np.int64), -100), sizes, rows)


class Documents(Sequences):
    """Documents as separate samples: a start token, the text and an end token.

    Args:
        texts: the documents.
        tokenizer: the model's tokenizer.
        length: largest number of tokens in a sample; longer documents are truncated.
    """

    token_mean = True

    def __init__(self, texts: Sequence[str | FileText], tokenizer: Tokenizer, *, length: int | None):
        self.tokens = running_text(texts, tokenizer)
        marked = int(tokenizer.eos_id is not None)  # the start token stands before each document
        self.start = self.tokens["ids"][:marked].astype(np.int64)
        self.ends = marked + np.cumsum(self.tokens["documents"], dtype=np.int64)
        whole = np.diff(self.ends, prepend=marked) + marked
        # The last token is only a target.
        self.kept = whole if length is None else np.minimum(whole, length + 1)
        self.cut = int((whole > self.kept).sum())
        self.begins = self.ends - whole + marked
        self.pad = tokenizer.pad_id or 0
        self.lengths = np.maximum(0, self.kept - 1)

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Tensor]:
        """Return texts (B, N), padded on the right, and the next token of each position."""
        marked = len(self.start)
        parts = [slice(self.begins[row], self.begins[row] + max(0, self.kept[row] - marked)) for row in rows]
        ids = [np.concatenate([self.start, self.tokens["ids"][part]]) for part in parts]
        sizes = [self.tokens["sizes"][part][1 - marked :].sum(0, dtype=np.int64) for part in parts]
        tokens, target = padded([i[:-1] for i in ids], self.pad), padded([i[1:] for i in ids], -100)
        return _batch(tokens, target, np.stack(sizes), rows)


def _batch(tokens: np.ndarray, target: np.ndarray, sizes: np.ndarray, rows: np.ndarray) -> dict[str, Tensor]:
    arrays = {"target": target, "chars": sizes[:, 0], "bytes": sizes[:, 1], "words": sizes[:, 2], "index": rows}
    arrays = {"tokens": tokens.astype(np.int64), **arrays}
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
