"""The few torchvision sets whose files or pixels need a hand before `Torchvision` can read them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torchvision.datasets as tv

from tfcli.errors import DataError


class Caltech101(tv.Caltech101):
    """With the list of files that torchvision builds one at a time."""

    @property
    def files(self) -> list[Path]:
        folder = Path(self.root) / "101_ObjectCategories"
        return [folder / self.categories[y] / f"image_{i:04d}.jpg" for y, i in zip(self.y, self.index, strict=True)]


class ImageNet(tv.ImageNet):
    """With one name a class: the first of its synset, or all of them where the first is not unique."""

    def __init__(self, root: str, split: str = "train", download: bool = False):
        super().__init__(root, split=split)
        first = [names[0] for names in self.classes]
        self.names = [
            name if first.count(name) == 1 else ", ".join(names)
            for name, names in zip(first, self.classes, strict=True)
        ]


class PCAM(tv.PCAM):
    """With pixels and labels read from the HDF5 files without opening one per image."""

    @property
    def pixels(self) -> H5Pixels:
        return H5Pixels(self._base_folder / self._FILES[self._split]["images"][0])

    @property
    def labels(self) -> np.ndarray:
        with self.h5py.File(self._base_folder / self._FILES[self._split]["targets"][0]) as file:
            return file["y"][:, 0, 0, 0].astype(np.int64)


class FER2013(tv.FER2013):
    """With pixels and labels side by side; torchvision reads them from one table and offers no download.

    Both public and private test images of the challenge are the test split, as torchvision has it.
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
    """With labels that begin at 0: scenes hold 3 to 10 objects."""

    @property
    def labels(self) -> list[int]:
        return [count - 3 for count in self._labels]


class H5Pixels:
    """Images of one size in an HDF5 file, opened once in each process.

    Args:
        path: the file; its data set `x` is (N, Y, X, 3) uint8.
    """

    def __init__(self, path: Path):
        self.path, self._pid = path.resolve(), -1  # a link on the way to it may be gone when it is read
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
        unique, inverse = np.unique(rows, return_inverse=True)  # HDF5 wants increasing rows
        return self._images()[unique][inverse]


_HARMLESS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _Careful(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def check_pickle(path: Path) -> None:
    """Read a pickle that no checksum vouches for, allowing numpy arrays and plain containers only.

    Raises:
        DataError: it wants to call something else (named), or is no pickle.
    """
    try:
        with open(path, "rb") as file:
            _Careful(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DataError(f"{path} is refused: reading it would run {error}. It is not an original file.") from None
    except (EOFError, ValueError, IndexError, AttributeError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error or type(error).__name__}.") from None


def without_checksums(dataset: type) -> type:
    """A subclass whose lists of files carry no md5, so that torchvision only asks whether the files exist."""

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
