"""View of images with captions: one caption per image in training, all captions in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tfcli.data.common.counter_rng import below, hash64
from tfcli.data.common.rows import Columns, pick, taken
from tfcli.data.images.imageset import Images
from tfcli.data.views.labelled import LabelledImages
from tfcli.text.tokenizer import Tokenizer

_LOOKED_AT = 2000


class CaptionedImages:
    """View of images and their captions; labelled images of the same source, if any, are evaluated as well.

    A training batch has one caption per image, drawn anew in each epoch as a function of (seed, epoch, row):
    `{"image", "tokens" (B, L), "index"}`. An evaluation batch has all captions of its images, and `owner` is the index
    of each caption's image: `{"image", "index", "tokens" (T, L), "owner" (T,)}`. Captions longer than the context are
    truncated.
    """

    unit, reads_text = "images", True
    beside = LabelledImages()

    def encode(self, rows: Columns, tokenizer: Tokenizer, *, length: int | None, train: bool) -> Captioned:
        """Return the samples of one split; raise ValueError where there is no tokenizer yet."""
        if tokenizer is None:
            raise ValueError("captions are served in tokens: `encode` them with a tokenizer first.")
        return Captioned(rows["image"], rows["caption"], tokenizer, train=train)


class Captioned:
    """Captioned images of one split.

    Where unreadable files are skipped, a training batch is filled up by repeating its first pairs: ranks that gather
    each other's embeddings need batches of equal size.

    Args:
        image: the images.
        caption: the list of captions of each image.
        tokenizer: encodes the captions.
        train: whether a batch has one caption per image (True) or all of them (False).
    """

    counted, cut = "images", 0

    def __init__(self, image: Images, caption: Any, tokenizer: Tokenizer, *, train: bool):
        self.image, self.caption, self.tokenizer, self.train = image, caption, tokenizer, train
        self.lengths = np.ones(len(image), dtype=np.int64)
        self.notes = cut_notes([text for own in taken(caption) for text in own], tokenizer) if train else []

    @property
    def in_memory(self) -> bool:
        return self.image.in_memory

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, Any]:
        image, kept, bad = self.image.draw(rows, seed=seed, epoch=epoch)
        if self.train and len(kept) < len(rows):
            filled = np.resize(np.arange(len(kept)), len(rows))
            image, kept = image[torch.from_numpy(filled)], kept[filled]
        batch: dict[str, Any] = {"image": image, "index": torch.from_numpy(kept)}
        texts = taken(pick(self.caption, kept))
        if self.train:
            chosen = below(hash64(seed, "caption", epoch, kept), np.array([len(own) for own in texts]))
            texts = [[own[int(c)]] for own, c in zip(texts, chosen, strict=True)]
        else:
            batch["owner"] = torch.from_numpy(np.repeat(kept, [len(own) for own in texts]))
        batch["tokens"] = self._tokens([text for own in texts for text in own])
        return batch | {"bad": bad} if bad else batch

    def _tokens(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.from_numpy(self.tokenizer.encode_padded(texts, truncate=True))

    def blank(self, size: int, *, seed: int) -> dict[str, Any]:
        texts = taken(pick(self.caption, np.arange(size) % len(self.caption)))
        image = self.image.noise(size, torch.Generator().manual_seed(seed))
        return {"image": image, "index": torch.arange(size), "tokens": self._tokens([own[0] for own in texts])}


def cut_notes(texts: Sequence[str], tokenizer: Tokenizer) -> list[str]:
    """Return a note where captions are longer than the context, estimated from about 2,000 evenly spaced captions."""
    seen = texts[:: max(1, -(-len(texts) // _LOOKED_AT))]
    cut = sum(len(ids) > tokenizer.room for ids in tokenizer.encode(seen))
    if not cut:
        return []
    return [
        f"{cut / len(seen):.1%} of the captions are longer than {tokenizer.context} tokens and are cut "
        "(model.text.context)"
    ]
