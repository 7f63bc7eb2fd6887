"""Types that sources of images give to the data module: labels or captions, and where the pixels are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from tfcli.data.common.request import Request


class Pixels(Protocol):
    """Images of one size: `take` gathers a batch of them, `size` is (Y, X)."""

    size: tuple[int, int]

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(B, Y, X, 3) uint8."""
        ...


class ArrayPixels:
    """Images held in memory. Grey ones are stored once and repeated to three channels on the way out.

    The array lives in a torch tensor, which loader processes share instead of copying.

    Args:
        array: (N, Y, X) or (N, Y, X, 3) uint8.
    """

    def __init__(self, array: np.ndarray):
        if array.dtype != np.uint8 or array.ndim not in (3, 4):
            raise ValueError(f"`array` must be uint8 (N, Y, X) or (N, Y, X, 3), but is {array.dtype} {array.shape}.")
        import torch  # here: `tfcli data status` reads this file and does without

        self.tensor = torch.from_numpy(np.ascontiguousarray(array))
        self.size = (int(array.shape[1]), int(array.shape[2]))

    def __len__(self) -> int:
        return len(self.tensor)

    def take(self, rows: np.ndarray) -> np.ndarray:
        images = self.tensor.numpy()[rows]
        return np.repeat(images[..., None], 3, axis=-1) if images.ndim == 3 else images


class Captions(Protocol):
    """Captions of each image: at least one text."""

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray) -> list[list[str]]:
        """All texts of some images."""
        ...


class CaptionList:
    """Captions held in memory.

    Args:
        captions: the texts of each image.
    """

    def __init__(self, captions: Sequence[Sequence[str]]):
        self.captions = captions

    def __len__(self) -> int:
        return len(self.captions)

    def take(self, rows: np.ndarray) -> list[list[str]]:
        return [list(self.captions[i]) for i in rows]


@dataclass
class Items:
    """One split as its source gives it: labels or captions, and either files or pixels.

    Args:
        labels: (N,) int64; see `unlabelled`.
        files: the image of each sample, for sets of files.
        pixels: the images themselves, for sets that already are arrays or are rendered.
        captions: the texts of each image, for splits of `Loaded.pairs`.
    """

    labels: np.ndarray
    files: list[Path] | None = None
    pixels: Pixels | None = None
    captions: Captions | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def picked(self, rows: Sequence[int] | np.ndarray) -> Items:
        """Some samples of a split of files."""
        assert self.files is not None
        captions = None if self.captions is None else CaptionList(self.captions.take(np.asarray(rows)))
        return Items(self.labels[rows], files=[self.files[i] for i in rows], captions=captions)


def unlabelled(count: int) -> np.ndarray:
    """The labels of samples that have none: -1."""
    return np.full(count, -1, dtype=np.int64)


@dataclass
class Loaded:
    """A set that a source loaded: class names in label order, its splits (train, val, test), and notes to print.

    Attributes:
        splits: labelled samples.
        pairs: splits of images with captions. A set may have either kind or both, and then not of the same images.
    """

    classes: list[str]
    splits: dict[str, Items]
    notes: list[str] = field(default_factory=list)
    where: Path | None = None
    pairs: dict[str, Items] = field(default_factory=dict)

    @property
    def found(self) -> dict[str, Items]:
        """The labelled splits, or where there are none the captioned ones: what a listing speaks about."""
        return self.splits or self.pairs

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each split."""
        return {split: len(items) for split, items in self.found.items()}

    def captioned(self) -> Loaded:
        """Return a copy whose splits are the captioned ones."""
        return replace(self, splits=self.pairs, pairs={})


class Source(Protocol):
    """Protocol of sources of images."""

    def load(self, request: Request) -> Loaded: ...

    def locate(self, request: Request) -> Path | str | None:
        """Locate the set without reading it; None when it is missing."""
        ...
