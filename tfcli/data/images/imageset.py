"""A dataset whose items are whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from tfcli.data.columns.items import Pixels
from tfcli.data.common.counter_rng import hash64, seed_for
from tfcli.data.common.order import Address
from tfcli.data.images.cache import Store
from tfcli.data.images.decode import BadImage
from tfcli.data.images.transforms import EvalTransform, TrainTransform, normalise


def normalised(batch: Any, *, mean: Sequence[float], std: Sequence[float]) -> Any:
    """The collation of batches that no data module normalises later (predictions for files)."""
    return batch if "error" in batch else batch | {"image": normalise(batch["image"], mean, std)}


class ImageSet(Dataset):
    """One split: `self[address]` is the batch that stands there.

    A file that turns out to be unusable only when it is touched (`cache=none`) is an error that names it; with `skip`
    it is left out of its batch, which becomes smaller, and is reported in the batch under `bad`.

    Args:
        pixels: images of one size, or a store of decoded files.
        rows: for each sample of the split its row in `pixels`.
        labels: (N,) of the split.
        transform: applied to each sample, with its seed.
        seed: of the augmentation.
        mixes: give each batch a seed for MixUp or CutMix.
        skip: leave unusable files out.
    """

    def __init__(
        self,
        pixels: Pixels | Store,
        rows: np.ndarray,
        labels: np.ndarray,
        *,
        transform: TrainTransform | EvalTransform,
        seed: int,
        mixes: bool = False,
        skip: bool = False,
    ):
        self.pixels, self.rows, self.labels = pixels, rows, labels
        self.transform, self.seed, self.mixes, self.skip = transform, seed, mixes, skip

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def in_memory(self) -> bool:
        """Whether reading a batch costs no decoding."""
        return not isinstance(self.pixels, Store) or self.pixels.mode != "none"

    def __getitem__(self, address: Address) -> dict[str, Any]:
        if get_worker_info() is None:
            return self._batch(address)
        try:
            return self._batch(address)
        except BadImage as error:
            return {"error": error}

    def _batch(self, address: Address) -> dict[str, Any]:
        indices = np.asarray(address.indices)
        seeds, copies = hash64(self.seed, "augment", address.epoch, indices), address.copies
        if copies is not None:
            seeds = hash64(seeds, "copy", copies)
        batch: dict[str, Any] = {}
        if isinstance(self.pixels, Store):
            image, kept, bad = self._files(self.pixels, indices, seeds)
            indices = indices[kept]
            if bad:
                batch["bad"] = bad
        else:
            image = self.transform.batch(self.pixels.take(self.rows[indices]), seeds)
        batch |= {
            "image": image,
            "label": torch.from_numpy(self.labels[indices]),
            "index": torch.from_numpy(indices.astype(np.int64)),
        }
        if self.mixes:
            first = int(indices[0]) if copies is None else f"{indices[0]} copy {copies[0]}"
            batch["mix"] = seed_for(self.seed, "mix", address.epoch, first)
        return batch

    def _files(
        self, store: Store, indices: np.ndarray, seeds: np.ndarray
    ) -> tuple[Tensor, list[int], list[tuple[str, str]]]:
        images, kept, bad = [], [], []
        for position, (row, seed) in enumerate(zip(self.rows[indices], seeds, strict=True)):
            try:
                images.append(self.transform.one(store.one(int(row)), seed))
                kept.append(position)
            except BadImage as error:
                if not self.skip:
                    raise
                bad.append((str(error.path), error.reason))
        if not images:
            raise BadImage(bad[0][0], f"{bad[0][1]}; none of the {len(bad)} images of its batch can be used")
        return torch.stack(images), kept, bad

    def plain(self, indices: np.ndarray, transform: EvalTransform) -> Tensor:
        """Images (B, 3, Y, X) uint8 of some samples as evaluation sees them."""
        rows = self.rows[indices]
        if isinstance(self.pixels, Store):
            return torch.stack([transform.one(self.pixels.one(int(row))) for row in rows])
        return transform.batch(self.pixels.take(rows))


class FileSet(ImageSet):
    """A user's files, of which the unusable ones are marked: black, and with the index -1 - i in place of i."""

    def _batch(self, address: Address) -> dict[str, Any]:
        assert isinstance(self.pixels, Store)
        assert isinstance(self.transform, EvalTransform)
        index, images = np.array(address.indices, dtype=np.int64), []
        for position, row in enumerate(self.rows[index]):
            try:
                images.append(self.transform.one(self.pixels.one(int(row))))
            except BadImage:
                images.append(self.transform.one(np.zeros((8, 8, 3), dtype=np.uint8)))
                index[position] = -1 - index[position]
        labels = torch.from_numpy(self.labels[address.indices])
        return {"image": torch.stack(images), "label": labels, "index": torch.from_numpy(index)}
