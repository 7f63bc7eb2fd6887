"""Source of the data sets of torchvision; a config describes each of them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.columns.pixels import ArrayPixels
from tfcli.data.columns.splits import take_test_split
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.archives import bounded
from tfcli.data.common.fetch import locate, locate_or_fetch, locate_without_folders
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.data.images.decode import decode
from tfcli.errors import DataError, install

_REFUSALS = (RuntimeError, OSError, ValueError, KeyError, IndexError)


class Torchvision:
    """Source of a data set of torchvision in torchvision's layout on disk.

    Labels, file names and pixels come from attributes of torchvision's class, so that no image is decoded to get a
    label.

    Args:
        dataset: dotted name of torchvision's class.
        splits: keyword arguments of the class for each split (`{train: {split: trainval}, test: {split: test}}`). A
            data set with only `train` gets a seeded, stratified test split.
        expects: files and folders below the root that must exist; `a|b` means either of them.
        labels, files, samples, pixels: names of the attributes; `samples` is a list of (file, label).
        classes: names in label order, or the name of their attribute.
        sort: whether to sort files by path, for classes that list a folder in arbitrary order.
        fetch: whether the class can download.
        pickles: files to check before torchvision unpickles them without checksums.
    """

    def __init__(
        self,
        dataset: str,
        *,
        splits: dict[str, dict[str, Any]],
        expects: Sequence[str],
        labels: str | None = None,
        files: str | None = None,
        samples: str | None = None,
        pixels: str | None = None,
        classes: str | Sequence[str] = "classes",
        sort: bool = False,
        fetch: bool = True,
        pickles: Sequence[str] = (),
    ):
        self.dataset, self.splits, self.expects = dataset, splits, list(expects)
        self.reads = {"labels": labels, "files": files, "samples": samples, "pixels": pixels}
        self.classes, self.sort, self.fetch, self.pickles = classes, sort, fetch, pickles

    def locate(self, request: Request) -> Path | None:
        found = locate_without_folders(request, self.expects)
        return locate(request, self.expects) or (found and found[0])

    def load(self, request: Request) -> LoadedTables:
        """Find or download the data set and load its labels.

        Raises:
            DataError: the data set is missing, rejected by torchvision, or unreadable.
        """
        module, name = self.dataset.rsplit(".", 1)
        dataset = getattr(import_module(module), name)
        build = partial(self._fetch, dataset) if self.fetch else None
        found = None if locate(request, self.expects) else locate_without_folders(request, self.expects)
        if found is None:
            return self._loaded(dataset, locate_or_fetch(request, self.expects, build), request)
        folder, inner = found
        with tempfile.TemporaryDirectory() as scratch:  # torchvision needs the missing folders
            link = Path(scratch).resolve() / inner
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder.resolve())
            loaded = self._loaded(dataset, Path(scratch).resolve(), request)
        for rows in loaded.splits.values():
            if isinstance(images := rows["image"], FileColumn):
                images.paths = [folder / path.relative_to(link) for path in images.paths]
        loaded.where = folder
        return loaded

    def _loaded(self, dataset: type, where: Path, request: Request) -> LoadedTables:
        notes = []
        if not request.verify:
            from tfcli.data.sources.adapters import check_pickle, without_checksums

            for path in self.pickles:
                check_pickle(where / path)
            dataset = without_checksums(dataset)
            notes.append(
                f"{request.name}: verification off, torchvision's checksums are not compared (data.verify=false)"
            )
        opened = {split: self._open(dataset, where, kwargs, request) for split, kwargs in self.splits.items()}
        splits = {split: self._table(data, request, split) for split, data in opened.items()}
        if "test" not in splits:
            splits = take_test_split(splits, request, notes, lacking="official test split")
        return LoadedTables(splits, {"label": self._names(next(iter(opened.values())))}, notes, where)

    def _fetch(self, dataset: type, folder: Path) -> None:
        for kwargs in self.splits.values():
            dataset(str(folder), download=True, **kwargs)

    def _open(self, dataset: type, where: Path, kwargs: dict[str, Any], request: Request) -> Any:
        try:
            with bounded(request.facts.get("max_expansion")):  # ImageNet unpacks its archives here
                return dataset(str(where), download=False, **kwargs)
        except _REFUSALS as error:
            text = str(error).replace("You can use download=True to download it", "").strip(" .")
            if "h5py" in text:
                raise DataError(f"{request.name} needs h5py: {install('pcam')}") from None
            hint = (
                " If the files are a subset or were changed on purpose, data.verify=false reads them unchecked."
                if request.verify
                else ""
            )
            raise DataError(
                f"torchvision refuses {request.name} in {where}: {text or type(error).__name__}.{hint}"
            ) from None

    def _read(self, data: Any, what: str, request: Request) -> Any:
        attribute = self.reads[what] or what
        try:
            return getattr(data, attribute)
        except AttributeError:
            import torchvision

            raise DataError(
                f"{self.dataset} of torchvision {torchvision.__version__} has no `{attribute}`, where "
                f"{request.name} is read from. Use another torchvision, or name another attribute in the set's config."
            ) from None

    def _table(self, data: Any, request: Request, split: str) -> Columns:
        if self.reads["pixels"]:
            labels = np.asarray(self._read(data, "labels", request), dtype=np.int64)
            return {"image": _pixels(self._read(data, "pixels", request)), "label": labels}
        if self.reads["samples"]:
            samples = list(self._read(data, "samples", request))
        else:
            files = self._read(data, "files", request)
            samples = list(zip(files, self._read(data, "labels", request), strict=True))
        if self.sort:
            samples.sort(key=lambda sample: str(sample[0]))
        files = [Path(path) for path, _ in samples]
        if files and not any(path.exists() for path in files):
            raise DataError(
                f"{request.name}: none of the {len(samples):,} images of the {split} split is there; "
                f"the first would be {samples[0][0]}."
            )
        return {"image": FileColumn(files, decode), "label": np.array([label for _, label in samples], dtype=np.int64)}

    def _names(self, data: Any) -> list[str]:
        if not isinstance(self.classes, str):
            return [str(name) for name in self.classes]
        return [str(name).replace("_", " ") for name in getattr(data, self.classes)]


def _pixels(values: Any) -> Any:
    """Convert arrays in any of torchvision's layouts to `ArrayPixels`; objects with `take` are returned unchanged."""
    if hasattr(values, "take") and hasattr(values, "size") and not hasattr(values, "dtype"):
        return values
    array = np.asarray(values)
    if array.ndim == 4 and array.shape[1] == 3 and array.shape[3] != 3:
        array = array.transpose(0, 2, 3, 1)
    return ArrayPixels(array)
