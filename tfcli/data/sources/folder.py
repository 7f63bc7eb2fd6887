"""Source of a user's own images: one folder per class, with or without train, val and test folders above them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tfcli.data.columns.checks import check_splits
from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.columns.splits import take_test_split
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.entries import Ignored, composed, images, listed
from tfcli.data.common.fetch import found_in
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.data.common.splitnames import WORDS, split_of_folder
from tfcli.data.images.decode import decode
from tfcli.errors import DataError

_TREE = """    FOLDER/CLASS/IMAGE.jpg              one folder a class (a test split is set aside), or
    FOLDER/train/CLASS/IMAGE.jpg        (or training, Train, train_set, ...)
    FOLDER/val/CLASS/IMAGE.jpg          (or valid, validation, dev; optional)
    FOLDER/test/CLASS/IMAGE.jpg         (or testing; optional)"""


class Folder:
    """Source of images in class folders, as torchvision's ImageFolder; images may lie in subfolders of their class.

    The classes are the folder names in sorted order, in Unicode's composed form, and must be the same in all splits.
    `tfcli.data.common.splitnames` recognises the folders of splits. Hidden entries, entries of other programs
    (`@eaDir`, `__MACOSX`) and files without an image suffix are ignored with a note. Without a test folder, a seeded,
    stratified fraction of train becomes the test split.
    """

    def locate(self, request: Request) -> Path | None:
        return request.root if request.root.is_dir() else None

    def load(self, request: Request) -> LoadedTables:
        """Load the tree of folders.

        Raises:
            DataError: the root has another layout, a class is empty, or the splits have different classes.
        """
        ignored = Ignored()
        trees = self._trees(request, ignored)
        above = (Path(os.path.realpath(request.root)),)
        found = {split: _classes(tree, ignored, above) for split, tree in trees.items()}
        for split, files in found.items():
            _check_classes(request, split, trees[split], files)
        check_splits(request.name, found, mend="give all of them the same class folders")
        names = sorted(found["train"])
        splits = {split: _table(files, names) for split, files in found.items()}
        notes = ignored.notes(request.name)
        if "test" not in splits:
            splits = take_test_split(splits, request, notes, lacking="test folder")
        return LoadedTables(splits, {"label": names}, notes, request.root)

    def _trees(self, request: Request, ignored: Ignored) -> dict[str, Path]:
        """Return the folder of each split; the root as train where there are no folders of splits."""
        root = request.root
        if not root.is_dir():
            raise _wrong_root(request, f"there is no folder {printable(root)}")
        folders, strays = listed(root, Ignored())
        named: dict[str, list[Path]] = {split: [] for split in WORDS}
        for folder in folders:
            if split := split_of_folder(folder.name):
                named[split].append(folder)
        trees = {split: [path for path in paths if listed(path, Ignored())[0]] for split, paths in named.items()}
        if trees["train"]:
            for split, paths in trees.items():
                if len(paths) > 1:
                    names = ", ".join(printable(path.name) for path in paths)
                    raise _wrong_root(request, f"{names} may all be the {split} split; keep one of them")
            found = {split: (trees[split] or paths)[0] for split, paths in named.items() if paths}
            listed(root, ignored)  # collects hidden entries for a note
            ignored.stray.extend([*strays, *(path for path in folders if path not in found.values())])
            return found
        if not folders:
            raise _wrong_root(request, f"{printable(root)} has no class folders")
        look_alike = [path.name for paths in named.values() for path in paths]
        if sum(map(bool, named.values())) > 1 or any(trees.values()):
            names = ", ".join(map(printable, sorted(look_alike)))
            raise _wrong_root(
                request, f"{names} in {printable(root)} look like splits, but there is no train folder with classes"
            )
        if len(folders) == 1 and any(
            split_of_folder(path.name) == "train" for path in listed(folders[0], Ignored())[0]
        ):
            raise _wrong_root(request, f"the train folder is one deeper: data.root={printable(folders[0])}")
        ignored.stray.extend(strays)
        return {"train": root}


def _classes(tree: Path, ignored: Ignored, above: tuple[Path, ...]) -> dict[str, list[Path]]:
    """Return the images of each class; the name of the class is in Unicode's composed form."""
    found: dict[str, list[Path]] = {}
    for folder in listed(tree, ignored)[0]:
        found.setdefault(composed(folder.name), []).extend(sorted(images(folder, ignored, above)))
    return found


def _table(files: dict[str, list[Path]], names: list[str]) -> Columns:
    labels = np.repeat(np.arange(len(names)), [len(files[name]) for name in names])
    images = FileColumn([path for name in names for path in files[name]], decode)
    return {"image": images, "label": labels.astype(np.int64)}


def _check_classes(request: Request, split: str, tree: Path, files: dict[str, list[Path]]) -> None:
    empty = [name for name, paths in sorted(files.items()) if not paths]
    if files and len(empty) == len(files):
        raise _wrong_root(request, f"no folder in {printable(tree)} has an image directly or below it")
    if empty:
        listing = ", ".join(printable(tree / name) for name in empty[:5]) + (", ..." if len(empty) > 5 else "")
        raise DataError(
            f"{request.name}, {split}: {len(empty)} class folder(s) without a single image: {listing}. "
            "Add images or remove the folder."
        )
    if not files:
        raise _wrong_root(request, f"{printable(tree)} has no class folders")


def _wrong_root(request: Request, what: str) -> DataError:
    return DataError(
        f"{request.name}: {what}.\n  Expected:\n{_TREE}\n  Found: {found_in(request.root)}\n"
        "  Name the folder with data.root=FOLDER."
    )
