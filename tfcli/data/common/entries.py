"""Files and folders of a user, without hidden entries and those of other programs; circular links are errors."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tfcli.data.common.printable import printable
from tfcli.errors import DataError

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".gif"),
    *(".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Suffixes of image files, in lower case."""
FOREIGN = frozenset(
    (
        *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "temporary items", "network trash folder"),
        *("$recycle.bin", "recycler", "system volume information", "lost+found"),
        *("@eadir", "@recycle", "#recycle", "#snapshot", "@tmp"),
        "__pycache__",
    )
)
"""Names of entries that systems, network drives and programs create in a user's folders, in lower case."""


def foreign(name: str) -> bool:
    """Return whether an entry is hidden or belongs to another program, and so is not data."""
    return name.startswith((".", "~$")) or name.lower() in FOREIGN


def composed(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), since systems write the same letters in two ways (NFC, NFD)."""
    return unicodedata.normalize("NFC", name)


@dataclass
class Ignored:
    """Entries that are not read, for a note to the user."""

    hidden: list[Path] = field(default_factory=list)
    stray: list[Path] = field(default_factory=list)

    def notes(self, name: str) -> list[str]:
        return [
            f"{name}: {len(paths)} {what} ignored (the first: {printable(paths[0])})"
            for what, paths in (
                ("hidden entries and entries of other programs", self.hidden),
                ("entries that are no images", self.stray),
            )
            if paths
        ]


def listed(folder: Path, ignored: Ignored) -> tuple[list[Path], list[Path]]:
    """Return the folders and the files in a folder that are data, each sorted by name.

    Raises:
        DataError: the folder cannot be read.
    """
    folders: list[Path] = []
    files: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = Path(entry.path)
                if foreign(entry.name):
                    ignored.hidden.append(path)
                else:
                    (folders if _is_folder(entry) else files).append(path)
    except OSError as error:
        raise DataError(f"{printable(folder)} cannot be read: {error.strerror or error}.") from None
    return folders, files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself counts as a file, and opening it later raises a clear error
        return False


def images(folder: Path, ignored: Ignored, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the image files in a folder and all folders below it.

    Args:
        folder: the folder to search.
        ignored: collects the entries that are not images.
        above: real paths of the parent folders in this search.

    Raises:
        DataError: a folder cannot be read, or is a link to one of its parents.
    """
    here = Path(os.path.realpath(folder))
    if any(here == path or here in path.parents for path in above):
        raise DataError(
            f"{printable(folder)} is a link to {printable(here)}, in which it lies: the folders never end. "
            "Remove the link."
        )
    folders, files = listed(folder, ignored)
    for path in files:
        if path.suffix.lower() in EXTENSIONS:
            yield path
        else:
            ignored.stray.append(path)
    for path in folders:
        yield from images(path, ignored, (*above, here))


def collect(files: list[Path]) -> list[Path]:
    """Return the given files and the image files inside the given folders, in order.

    Raises:
        DataError: a path does not exist, or a folder has no image or a circular link.
    """
    found: list[Path] = []
    for path in files:
        if path.is_dir():
            inside = sorted(images(path, Ignored()))
            if not inside:
                raise DataError(f"there is no image in `{path}` ({', '.join(EXTENSIONS[:4])}, ...).")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"there is no file `{path}`.")
    return found
