"""Batches of images with captions: one caption an image to train on, all of them to evaluate with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import Dataset

from tfcli.data.common.counter_rng import below, hash64
from tfcli.data.common.order import Address
from tfcli.data.images.assembly import Split
from tfcli.errors import ConfigError

_LOOKED_AT = 2000


@runtime_checkable
class Encoder(Protocol):
    """Protocol of tokenizers."""

    context: int

    def encode(self, texts: Sequence[str], *, truncate: bool = False) -> np.ndarray:
        """(B, context) int64."""
        ...

    def save(self, folder: Path) -> Path:
        """Write it as a file that can be read back."""
        ...


class PairSet(Dataset):
    """One captioned split: `self[address]` is the batch that stands there.

    A training batch has one caption an image, drawn anew each epoch and addressed by (seed, epoch, index):
    `{"image", "tokens" (B, L), "index"}`. An evaluation batch has all captions of its images, and `owner` says whose
    each is: `{"image", "index", "tokens" (T, L), "owner" (T,)}`. Captions longer than the context are cut.

    Where unusable files are skipped, a training batch is filled up with its own first pairs: ranks that gather each
    other's embeddings need batches of equal size.

    Args:
        split: images and captions.
        tokenizer: of the captions.
        seed: of the draw.
        train: one caption an image.
    """

    def __init__(self, split: Split, *, tokenizer: Encoder, seed: int, train: bool):
        self.split, self.tokenizer, self.seed, self.train = split, tokenizer, seed, train

    def __len__(self) -> int:
        return len(self.split.images)

    @property
    def in_memory(self) -> bool:
        """Whether reading a batch costs no decoding."""
        return self.split.images.in_memory

    def __getitem__(self, address: Address) -> dict[str, Any]:
        batch = self.split.images[address]
        if "error" in batch:
            return batch
        del batch["label"]
        if self.train and len(batch["index"]) < len(address.indices):
            rows = torch.from_numpy(np.resize(np.arange(len(batch["index"])), len(address.indices)))
            batch |= {"image": batch["image"][rows], "index": batch["index"][rows]}
        index = batch["index"].numpy()
        texts = self.split.texts(index)
        if self.train:
            chosen = below(hash64(self.seed, "caption", address.epoch, index), np.array([len(t) for t in texts]))
            texts = [[own[int(c)]] for own, c in zip(texts, chosen, strict=True)]
        else:
            batch["owner"] = torch.from_numpy(np.repeat(index, [len(own) for own in texts]))
        batch["tokens"] = torch.from_numpy(self.tokenizer.encode([t for own in texts for t in own], truncate=True))
        return batch


def cut_note(name: str, texts: Sequence[str], tokenizer: Encoder) -> list[str]:
    """A note where captions are longer than the context; of long lists, 2,000 evenly drawn ones are looked at."""
    seen = texts[:: max(1, -(-len(texts) // _LOOKED_AT))]
    full = tokenizer.encode(seen, truncate=True)[:, -1] != 0
    cut = sum(_too_long(tokenizer, seen[int(i)]) for i in np.flatnonzero(full))
    if not cut:
        return []
    return [
        f"{name}: {cut / len(seen):.1%} of the captions are longer than {tokenizer.context} tokens and are cut "
        "(model.text.context)"
    ]


def _too_long(tokenizer: Encoder, text: str) -> bool:
    try:
        tokenizer.encode([text])
    except ConfigError:
        return True
    return False
