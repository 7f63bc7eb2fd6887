"""The images of a split with their random transforms, and batches of a user's own files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.columns.pixels import Pixels
from tfcli.data.common.counter_rng import hash64
from tfcli.data.common.order import Address
from tfcli.data.common.rows import Picked
from tfcli.data.images.cache import Bad, Store
from tfcli.data.images.decode import BadImage, size_of
from tfcli.data.images.transforms import EvalTransform, TrainTransform, normalise
from tfcli.errors import ConfigError

if TYPE_CHECKING:
    from tfcli.data.images.spatial import Sample

T = TypeVar("T")


def normalised(batch: Any, *, mean: Sequence[float], std: Sequence[float]) -> Any:
    """Normalise the images of a batch: the collate function for files, which no data module normalises later."""
    return batch if "error" in batch else batch | {"image": normalise(batch["image"], mean, std)}


def addressed(rows: np.ndarray, *, seed: int, epoch: int, copies: np.ndarray | None = None) -> np.ndarray:
    """Return the seeds (B,) of the random transforms of some samples of an epoch, or of copies of them."""
    seeds = hash64(seed, "augment", epoch, rows)
    return seeds if copies is None else hash64(seeds, "copy", copies)


def _stored_at(column: Any, rows: Any) -> tuple[Any, Any]:
    """Return the object that stores the cells of a column, and the positions of `rows` in it."""
    if isinstance(column, Images):
        return column.pixels, column.rows[rows]
    return (column.column, column.rows[rows]) if isinstance(column, Picked) else (column, rows)


def reader(column: Any, rows: np.ndarray) -> Callable[[int], Any]:
    """Return a function from a position in `rows` to its cell; files are read one by one, other rows all at once."""
    holder, which = _stored_at(column, rows)
    if isinstance(holder, Store):
        return lambda position: holder.one(int(which[position]))
    if isinstance(holder, FileColumn):
        return lambda position: holder.read(holder.paths[which[position]])
    if isinstance(holder, list | np.ndarray):
        return lambda position: holder[which[position]]
    return holder.take(which).__getitem__


def file_of(column: Any, row: int) -> Path | None:
    """Return the file of a row; None where the column has no files."""
    holder, which = _stored_at(column, row)
    files = getattr(holder, "files", None) or getattr(holder, "paths", None)
    return files[which] if files else None


class Images:
    """The images of one split, each transformed with a seed of its own.

    With `cache=none`, a file that cannot be read is found only on access; it raises an error, or with `skip` is
    omitted from its batch, which becomes smaller.

    Args:
        pixels: images of one size, a store of decoded files, or files that are decoded on each access (clips).
        rows: (N,) the row of each sample in `pixels`.
        transform: transform of each sample, called with the sample's seed.
        augmented: the training transform, for views that also augment in evaluation.
        mixes: whether MixUp or CutMix is applied to the batches.
        skip: whether unreadable files are omitted.
    """

    def __init__(
        self,
        pixels: Pixels | Store | FileColumn,
        rows: np.ndarray,
        *,
        transform: TrainTransform | EvalTransform,
        augmented: TrainTransform | None = None,
        mixes: bool = False,
        skip: bool = False,
    ):
        self.pixels, self.rows, self.transform, self.mixes, self.skip = pixels, rows, transform, mixes, skip
        self.augmented = augmented

    def __len__(self) -> int:
        return len(self.rows)

    def check_unmixed(self, what: str) -> None:
        """Raise ConfigError where MixUp or CutMix is set, which views of `what` do not support."""
        if self.mixes:
            raise ConfigError(f"data.augment.mixup and .cutmix cannot mix {what}. Set both to 0.")

    @property
    def in_memory(self) -> bool:
        """Return whether a batch needs no decoding."""
        return self.pixels.mode != "none" if isinstance(self.pixels, Store) else not isinstance(self.pixels, FileColumn)

    def draw(
        self, rows: np.ndarray, *, seed: int, epoch: int, copies: np.ndarray | None = None
    ) -> tuple[Tensor, np.ndarray, Bad]:
        """Return transformed images; their random choices are functions of (seed, epoch, row, copy).

        Returns:
            The images (B, 3, Y, X) uint8, their rows, and the omitted files with reasons.

        Raises:
            BadImage: a file cannot be read, or with `skip` no file of the batch.
        """
        seeds = addressed(rows, seed=seed, epoch=epoch, copies=copies)
        if not isinstance(self.pixels, Store | FileColumn):
            return self.transform.batch(self.pixels.take(self.rows[rows]), seeds), rows, []
        images, kept, bad = self.each(rows, lambda image, position: self.transform.one(image, seeds[position]))
        return torch.stack(images), rows[kept], bad

    def each(self, rows: np.ndarray, make: Callable[[np.ndarray, int], T]) -> tuple[list[T], list[int], Bad]:
        """Apply a function to each image.

        Args:
            rows: samples of the split.
            make: function of an image (Y, X, 3) and its position in `rows`; with `skip`, a `BadImage` that it raises
                omits the sample.

        Returns:
            The results, their positions in `rows`, and the omitted files with reasons.

        Raises:
            BadImage: a file cannot be read, or with `skip` no file of the batch.
        """
        found, kept, bad = list[T](), list[int](), Bad()
        read = reader(self, rows)
        for position in range(len(rows)):
            try:
                found.append(make(read(position), position))
                kept.append(position)
            except BadImage as error:
                if not self.skip:
                    raise
                bad.append((str(error.path), error.reason))
        if not found:
            raise BadImage(bad[0][0], f"{bad[0][1]}; none of the {len(bad)} images of its batch can be used")
        return found, kept, bad

    def together(
        self,
        name: str,
        rows: np.ndarray,
        columns: Mapping[str, Any],
        *,
        seed: int,
        epoch: int,
        copies: np.ndarray | None = None,
    ) -> tuple[list[Sample], np.ndarray, Bad]:
        """Return samples of several columns that share one random transform; the images equal those of `draw`.

        Args:
            name: name of this column, image or clip.
            rows, seed, epoch, copies: as in `draw`.
            columns: the other columns; see `tfcli.data.images.spatial.KINDS`.

        Returns:
            The samples, their rows, and the omitted files with reasons.

        Raises:
            BadImage: a file of any column cannot be read, or does not fit its image.
        """
        from tfcli.data.images.spatial import KINDS, PLACES, Field, MisfitError, assembled

        seeds = addressed(rows, seed=seed, epoch=epoch, copies=copies)
        read = {other: reader(column, rows) for other, column in columns.items()}
        stored = isinstance(self.pixels, Store | FileColumn)
        move = self.transform.sample if stored else self.transform.sample_of_batch
        placed = any(KINDS[other] in PLACES for other in columns)
        field = next((other for other in columns if issubclass(KINDS[other], Field)), None) if name == "image" else None

        def moved(image: np.ndarray, position: int) -> Sample:
            file = file_of(self, rows[position]) if placed or field else None
            parts = {name: image} | {other: value(position) for other, value in read.items()}
            full = size_of(file, likely=parts[field].shape if field and not placed else None) if file else None
            try:
                return move(assembled(parts, full=full), seeds[position])
            except MisfitError as error:
                path = file_of(columns[error.column], rows[position])
                if path is None:
                    raise
                raise BadImage(path, f"the {error.column} {error.reason}") from None

        samples, kept, bad = self.each(rows, moved)
        return samples, rows[kept], bad

    def with_transform(self, transform: EvalTransform) -> Images:
        """Return the same images with the transform of evaluation."""
        return Images(self.pixels, self.rows, transform=transform, skip=self.skip)

    def noise(self, size: int, draw: torch.Generator) -> Tensor:
        """Return random pixels (B, 3, Y, X) uint8 in the shape of a batch."""
        side = self.transform.size
        return torch.randint(0, 256, (size, 3, side, side), generator=draw, dtype=torch.uint8)

    def plain(self, indices: np.ndarray, transform: EvalTransform) -> Tensor:
        """Return some images (B, 3, Y, X) uint8 with the transform of evaluation."""
        rows = self.rows[indices]
        if isinstance(self.pixels, Store):
            return torch.stack([transform.one(self.pixels.one(int(row))) for row in rows])
        assert not isinstance(self.pixels, FileColumn)
        return transform.batch(self.pixels.take(rows))


class FileSet(Dataset):
    """Dataset of a user's files: `self[address]` is a batch with labels -1.

    Args:
        images: the images of the files.
        mark_bad: whether an unreadable file stays in its batch as a black image, with index -1 - i instead of i.
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
