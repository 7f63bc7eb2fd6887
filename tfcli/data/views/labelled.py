"""View of images with one label each."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tfcli.data.common.counter_rng import seed_for
from tfcli.data.common.rows import Columns
from tfcli.data.images.imageset import Images


class LabelledImages:
    """View of images and their labels: `{"image" (B, 3, Y, X), "label" (B), "index" (B)}`.

    With MixUp or CutMix, a training batch also has `mix`, the seed of its random mixture.
    """

    unit, reads_text = "images", False

    def encode(self, rows: Columns, tokenizer: Any, *, length: int | None, train: bool) -> Labelled:
        return Labelled(rows["image"], rows["label"])


class Labelled:
    """Labelled images of one split.

    Args:
        image: the images.
        label: (N,) the class of each image.
    """

    counted, cut = "images", 0

    def __init__(self, image: Images, label: np.ndarray):
        self.image, self.label = image, np.asarray(label)
        self.lengths, self.notes = np.ones(len(image), dtype=np.int64), list[str]()

    @property
    def in_memory(self) -> bool:
        return self.image.in_memory

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int, copies: np.ndarray | None = None) -> dict[str, Any]:
        image, rows, bad = self.image.draw(rows, seed=seed, epoch=epoch, copies=copies)
        label = torch.from_numpy(self.label[rows])
        batch: dict[str, Any] = {"image": image, "label": label, "index": torch.from_numpy(rows)}
        if bad:
            batch["bad"] = bad
        if self.image.mixes:
            first = int(rows[0]) if copies is None else f"{rows[0]} copy {copies[0]}"
            batch["mix"] = seed_for(seed, "mix", epoch, first)
        return batch

    def batches(self, parts: list[np.ndarray], *, seed: int, epoch: int) -> list[dict[str, Any]]:
        """Return `batch` of each of `parts`, drawn at once."""
        image, rows, bad = self.image.draw(np.concatenate(parts), seed=seed, epoch=epoch)
        if bad:
            return [self.batch(part, seed=seed, epoch=epoch) for part in parts]
        label, index = torch.from_numpy(self.label[rows]), torch.from_numpy(rows)
        ends = np.cumsum([len(part) for part in parts]).tolist()
        slices = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        found: list[dict[str, Any]] = [{"image": image[s], "label": label[s], "index": index[s]} for s in slices]
        if self.image.mixes:
            for batch, part in zip(found, parts, strict=True):
                batch["mix"] = seed_for(seed, "mix", epoch, int(part[0]))
        return found

    def blank(self, size: int, *, seed: int) -> dict[str, Any]:
        draw = torch.Generator().manual_seed(seed)
        image = self.image.noise(size, draw)
        label = torch.randint(0, int(self.label.max(initial=0)) + 1, (size,), generator=draw)
        batch = {"image": image, "label": label, "index": torch.arange(size)}
        return batch | {"mix": 0} if self.image.mixes else batch
