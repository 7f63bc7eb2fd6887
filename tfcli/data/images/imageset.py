"""The images of a split, drawn by addresses, and a user's own files in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from tfcli.data.columns.items import Pixels
from tfcli.data.common.counter_rng import hash64
from tfcli.data.common.order import Address
from tfcli.data.images.cache import Store
from tfcli.data.images.decode import BadImage
from tfcli.data.images.transforms import EvalTransform, TrainTransform, normalise


def normalised(batch: Any, *, mean: Sequence[float], std: Sequence[float]) -> Any:
    """The collation of batches that no data module normalises later (predictions for files)."""
    return batch if "error" in batch else batch | {"image": normalise(batch["image"], mean, std)}


class Images:
    """The images of one split: a column that is drawn, each image transformed by a seed of its own.

    A file that turns out to be unusable only when it is touched (`cache=none`) is an error that names it; with `skip`
    it is left out of its batch, which becomes smaller.

    Args:
        pixels: images of one size, or a store of decoded files.
        rows: for each sample of the split its row in `pixels`.
        transform: applied to each sample, with its seed.
        mixes: whether batches are to be mixed by MixUp or CutMix.
        skip: leave unusable files out.
    """

    def __init__(
        self,
        pixels: Pixels | Store,
        rows: np.ndarray,
        *,
        transform: TrainTransform | EvalTransform,
        mixes: bool = False,
        skip: bool = False,
    ):
        self.pixels, self.rows, self.transform, self.mixes, self.skip = pixels, rows, transform, mixes, skip

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def in_memory(self) -> bool:
        """Whether reading a batch costs no decoding."""
        return not isinstance(self.pixels, Store) or self.pixels.mode != "none"

    def draw(
        self, rows: np.ndarray, *, seed: int, epoch: int, copies: np.ndarray | None = None
    ) -> tuple[Tensor, np.ndarray, list[tuple[str, str]]]:
        """Return images (B, 3, Y, X) uint8, addressed by (seed, epoch, row, copy).

        Returns:
            The images; the rows that they are of; paths and reasons of the files that were left out.

        Raises:
            BadImage: a file cannot be used, or none of the batch.
        """
        seeds = hash64(seed, "augment", epoch, rows)
        if copies is not None:
            seeds = hash64(seeds, "copy", copies)
        if isinstance(self.pixels, Store):
            image, kept, bad = self._files(self.pixels, rows, seeds)
            return image, rows[kept], bad
        return self.transform.batch(self.pixels.take(self.rows[rows]), seeds), rows, []

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

    def seen_by(self, transform: EvalTransform) -> Images:
        """Return the same images as evaluation sees them."""
        return Images(self.pixels, self.rows, transform=transform, skip=self.skip)

    def noise(self, size: int, draw: torch.Generator) -> Tensor:
        """Return noise (B, 3, Y, X) uint8 in the shape of a batch."""
        side = self.transform.size
        return torch.randint(0, 256, (size, 3, side, side), generator=draw, dtype=torch.uint8)

    def plain(self, indices: np.ndarray, transform: EvalTransform) -> Tensor:
        """Images (B, 3, Y, X) uint8 of some samples as evaluation sees them."""
        rows = self.rows[indices]
        if isinstance(self.pixels, Store):
            return torch.stack([transform.one(self.pixels.one(int(row))) for row in rows])
        return transform.batch(self.pixels.take(rows))


class FileSet(Dataset):
    """A user's files: `self[address]` is the batch that stands there, its labels -1.

    Args:
        images: of the files.
        mark_bad: keep the places of unusable files: black, and with the index -1 - i in place of i.
    """

    in_memory = False

    def __init__(self, images: Images, *, mark_bad: bool = False):
        self.images, self.mark_bad = images, mark_bad

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, address: Address) -> dict[str, Any]:
        try:
            return self._batch(np.asarray(address.indices, dtype=np.int64))
        except BadImage as error:
            if get_worker_info() is None:
                raise
            return {"error": error}

    def _batch(self, index: np.ndarray) -> dict[str, Any]:
        bad: list[tuple[str, str]] = []
        if self.mark_bad:
            image, index = self._marked(index)
        else:
            image, index, bad = self.images.draw(index, seed=0, epoch=0)
        labels = torch.full((len(index),), -1)
        batch = {"image": image, "label": labels, "index": torch.from_numpy(index)}
        return batch | {"bad": bad} if bad else batch

    def _marked(self, index: np.ndarray) -> tuple[Tensor, np.ndarray]:
        store, transform = self.images.pixels, self.images.transform
        assert isinstance(store, Store)
        assert isinstance(transform, EvalTransform)
        images, index = [], index.copy()
        for position, row in enumerate(self.images.rows[index]):
            try:
                images.append(transform.one(store.one(int(row))))
            except BadImage:
                images.append(transform.one(np.zeros((8, 8, 3), dtype=np.uint8)))
                index[position] = -1 - index[position]
        return torch.stack(images), index
