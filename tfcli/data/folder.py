"""A user's own images: one folder a class, with or without train, val and test folders above them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfcli.data.decode import printable
from tfcli.data.fetch import found_in
from tfcli.data.items import Items, Loaded, Request
from tfcli.data.splits import carve_test
from tfcli.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
SPLIT_FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
_TREE = """    FOLDER/CLASS/IMAGE.jpg              one folder a class (a test split is carved), or
    FOLDER/train/CLASS/IMAGE.jpg
    FOLDER/val/CLASS/IMAGE.jpg          (or valid; optional)
    FOLDER/test/CLASS/IMAGE.jpg         (optional)"""


@dataclass
class _Ignored:
    """Hidden and stray entries: counted, the first remembered."""

    hidden: list[Path] = field(default_factory=list)
    stray: list[Path] = field(default_factory=list)

    def notes(self, name: str) -> list[str]:
        return [
            f"{name}: {len(paths)} {what} ignored (the first: {printable(paths[0])})"
            for what, paths in (("hidden entries", self.hidden), ("entries that are no images", self.stray))
            if paths
        ]


class Folder:
    """Any ImageFolder tree. Classes are folder names in sorted order; images may lie deeper below their class.

    Hidden entries (`.name`, `__MACOSX`) and files without an image's extension are ignored and noted. All splits must
    have the same classes. Without a test folder a seeded, stratified share of train becomes the test split.
    """

    def locate(self, request: Request) -> Path | None:
        return request.root if request.root.is_dir() else None

    def load(self, request: Request) -> Loaded:
        """Read the tree.

        Raises:
            DataError: no such tree (with what was found), an empty class, or splits whose classes differ.
        """
        ignored = _Ignored()
        trees = self._trees(request, ignored)
        listed = {split: _classes(tree, ignored) for split, tree in trees.items()}
        for split, files in listed.items():
            _check_classes(request, split, trees[split], files)
        names = sorted(listed["train"])
        for split in ("val", "test"):
            if split in listed:
                _check_same(request, names, sorted(listed[split]), split)
        splits = {split: _items(files, names) for split, files in listed.items()}
        notes = ignored.notes(request.name)
        if "test" not in splits:
            splits = carve_test(splits, request, notes, lacking="test folder")
        return Loaded(names, splits, notes, request.root)

    def _trees(self, request: Request, ignored: _Ignored) -> dict[str, Path]:
        root = request.root
        if not root.is_dir():
            raise _wrong_root(request, f"there is no folder {printable(root)}")
        found = {}
        for split, names in SPLIT_FOLDERS.items():
            for name in names:
                if (root / name).is_dir() and split not in found:
                    found[split] = root / name
        if "train" in found and _folders(found["train"], _Ignored()):
            known = {tree.name for tree in found.values()}
            ignored.stray.extend(p for p in _folders(root, ignored) if p.name not in known)
            return found
        folders = _folders(root, _Ignored())  # `_classes` counts what is ignored here
        if not folders:
            raise _wrong_root(request, f"{printable(root)} has no class folders")
        if found and all(folder in found.values() for folder in folders):
            raise _wrong_root(
                request, f"{printable(root)} has {', '.join(sorted(found))} but no train folder with classes"
            )
        if len(folders) == 1 and any((folders[0] / name).is_dir() for name in SPLIT_FOLDERS["train"]):
            raise _wrong_root(request, f"the train folder is one deeper: data.root={printable(folders[0])}")
        return {"train": root}


def _folders(folder: Path, ignored: _Ignored) -> list[Path]:
    """The visible folders in `folder`; files beside them are strays."""
    folders = []
    for path in sorted(folder.iterdir()):
        if _hidden(path.name):
            ignored.hidden.append(path)
        elif path.is_dir():
            folders.append(path)
        else:
            ignored.stray.append(path)
    return folders


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _classes(tree: Path, ignored: _Ignored) -> dict[str, list[Path]]:
    return {folder.name: sorted(_images(folder, ignored)) for folder in _folders(tree, ignored)}


def _images(folder: Path, ignored: _Ignored) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if _hidden(entry.name):
                ignored.hidden.append(path)
            elif entry.is_dir():
                yield from _images(path, ignored)
            elif entry.name.lower().endswith(EXTENSIONS):
                yield path
            else:
                ignored.stray.append(path)


def _items(files: dict[str, list[Path]], names: list[str]) -> Items:
    labels = np.repeat(np.arange(len(names)), [len(files[name]) for name in names])
    return Items(labels.astype(np.int64), files=[path for name in names for path in files[name]])


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


def _check_same(request: Request, train: list[str], other: list[str], split: str) -> None:
    if train == other:
        return
    only_train, only_other = sorted(set(train) - set(other)), sorted(set(other) - set(train))
    parts = [
        f"only in {where}: {', '.join(printable(n) for n in names[:10])}" + (", ..." if len(names) > 10 else "")
        for where, names in (("train", only_train), (split, only_other))
        if names
    ]
    raise DataError(
        f"{request.name}: train has {len(train)} classes and {split} has {len(other)}, and they differ: "
        f"{'; '.join(parts)}. Labels are never re-indexed: give both the same class folders."
    )


def _wrong_root(request: Request, what: str) -> DataError:
    return DataError(
        f"{request.name}: {what}.\n  Expected:\n{_TREE}\n  Found: {found_in(request.root)}\n"
        "  Name the folder with data.root=FOLDER."
    )
