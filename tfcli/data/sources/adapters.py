"""Adapters for torchvision sets that `Torchvision` cannot read directly, and safe reading of their pickles."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torchvision.datasets as tv

from tfcli.errors import DataError


class Caltech101(tv.Caltech101):
    """torchvision's Caltech101 with a list of its files."""

    @property
    def files(self) -> list[Path]:
        folder = Path(self.root) / "101_ObjectCategories"
        return [folder / self.categories[y] / f"image_{i:04d}.jpg" for y, i in zip(self.y, self.index, strict=True)]


class ImageNet(tv.ImageNet):
    """torchvision's ImageNet with one name per class: the first of its synset, or all names if that is ambiguous."""

    def __init__(self, root: str, split: str = "train", download: bool = False):
        super().__init__(root, split=split)
        first = [names[0] for names in self.classes]
        self.names = [
            name if first.count(name) == 1 else ", ".join(names)
            for name, names in zip(first, self.classes, strict=True)
        ]


class PCAM(tv.PCAM):
    """torchvision's PCAM with pixels and labels from HDF5 files that are not opened again for every image."""

    @property
    def pixels(self) -> H5Pixels:
        return H5Pixels(self._base_folder / self._FILES[self._split]["images"][0])

    @property
    def labels(self) -> np.ndarray:
        with self.h5py.File(self._base_folder / self._FILES[self._split]["targets"][0]) as file:
            return file["y"][:, 0, 0, 0].astype(np.int64)


class FER2013(tv.FER2013):
    """torchvision's FER2013 with separate pixels and labels; torchvision offers no download.

    As in torchvision, the public and the private test images of the challenge together are the test split.
    """

    def __init__(self, root: str, split: str = "train", download: bool = False):
        super().__init__(root, split=split)

    @property
    def pixels(self) -> np.ndarray:
        return np.stack([image.numpy() for image, _ in self._samples])

    @property
    def labels(self) -> list[int]:
        return [label for _, label in self._samples]


class CLEVRCounts(tv.CLEVRClassification):
    """torchvision's CLEVRClassification with labels from 0, for scenes of 3 to 10 objects."""

    @property
    def labels(self) -> list[int]:
        return [count - 3 for count in self._labels]


class H5Pixels:
    """Images of one size in an HDF5 file, which each process opens once.

    Args:
        path: the file; its data set `x` is (N, Y, X, 3) uint8.
    """

    def __init__(self, path: Path):
        self.path, self._pid = path.resolve(), -1  # resolved now, because a temporary link may be gone later
        self._file: Any = None
        self.count, *size, _ = self._images().shape
        self.size = tuple(size)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_file": None, "_pid": -1}

    def _images(self) -> Any:
        if self._pid != os.getpid():
            import h5py

            self._file, self._pid = h5py.File(self.path, "r"), os.getpid()
        return self._file["x"]

    def __len__(self) -> int:
        return self.count

    def take(self, rows: np.ndarray) -> np.ndarray:
        unique, inverse = np.unique(rows, return_inverse=True)  # HDF5 requires increasing rows
        return self._images()[unique][inverse]


_ALLOWED_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _SafeUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def check_pickle(path: Path) -> None:
    """Check that an unverified pickle holds only numpy arrays and plain containers.

    Raises:
        DataError: the pickle would call anything else, which the message names, or the file is not a pickle.
    """
    try:
        with open(path, "rb") as file:
            _SafeUnpickler(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DataError(f"{path} is refused: reading it would run {error}. It is not an original file.") from None
    except (EOFError, ValueError, IndexError, AttributeError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error or type(error).__name__}.") from None


def without_checksums(dataset: type) -> type:
    """Return a subclass whose file lists have no MD5 sums, so that torchvision only checks that the files exist."""

    def strip(value: Any) -> Any:
        if isinstance(value, str):
            is_md5 = len(value) == 32 and all(c in "0123456789abcdef" for c in value)
            return None if is_md5 else value
        if isinstance(value, list | tuple):
            return type(value)(strip(v) for v in value)
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items()}
        return value

    names = ("train_list", "test_list", "meta", "split_list", "_file_dict", "_RESOURCES")
    fields = {name: strip(getattr(dataset, name)) for name in names if hasattr(dataset, name)}
    # The class keeps its name: torchvision derives folders from it.
    return type(dataset.__name__, (dataset,), fields)
