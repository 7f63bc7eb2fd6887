"""Sources of images with captions: a user's own in any layout of `captionfiles`, and Flickr8k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.columns.splits import take_test_split
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.entries import EXTENSIONS, foreign
from tfcli.data.common.fetch import found_in, locate, locate_or_fetch
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.data.common.splitnames import SPLITS, split_called, split_of_file
from tfcli.data.images.decode import decode
from tfcli.data.sources.captionfiles import Row, read_captions
from tfcli.data.sources.separated import How
from tfcli.data.sources.tables import SUFFIXES, read_text, refuse
from tfcli.errors import DataError

_FOLDERS = ("images", "Images", "image", "img", "photos")
_LOOKED_AT = 200
_TREE = """    FOLDER/captions.tsv (or .csv, .json, .jsonl)   a line a caption: image and caption
    FOLDER/images/...                              the images; or beside the captions
    or train.tsv, val.tsv, test.tsv in its place, or a column `split`"""


@dataclass
class _Split:
    """Images of one split in order of appearance, with their captions and the places of these in the file."""

    captions: dict[Path, list[str]] = field(default_factory=dict)
    places: dict[Path, list[str]] = field(default_factory=dict)

    def add(self, path: Path, row: Row) -> None:
        self.captions.setdefault(path, []).append(row.text.strip())
        self.places.setdefault(path, []).append(row.place)

    def missing(self) -> list[str]:
        """Return the places that name a missing image; the first place of each image has its path."""
        gone = [path for path in self.captions if not path.is_file()]
        places = [(path, self.places[path]) for path in gone]
        return [text for path, (first, *more) in places for text in (f"{first} ({printable(path)})", *more)]

    def table(self) -> Columns:
        return {"image": FileColumn(list(self.captions), decode), "caption": list(self.captions.values())}


class Captions:
    """Source `data=captions`: caption files and the images that they name.

    The root is a caption file, a folder with one caption file, or a folder with one per split (`train.tsv`,
    `captions_val.json`, ...). The splits are given by the files, or by a column `split`; otherwise images are set aside
    with all their captions. An image in two splits is an error.

    Args:
        file: the caption file, below the root or absolute; None means the only one in the folder.
        images: the folder of the images; None means the folder of the caption file, or `images` in it.
        image_column, caption_column: names of the columns; None searches for the usual names.
    """

    def __init__(
        self,
        *,
        file: str | None = None,
        images: str | None = None,
        image_column: str | None = None,
        caption_column: str | None = None,
    ):
        self.file, self.images = file, images
        self.columns = {"image_column": image_column, "caption_column": caption_column}

    def locate(self, request: Request) -> Path | None:
        root = request.root
        return root if root.is_file() or (root.is_dir() and self._listed(root)) else None

    def load(self, request: Request) -> LoadedTables:
        """Load the captions and find the images.

        Raises:
            DataError: there is no caption file, a file cannot be read, images are missing (unless unreadable files are
                skipped), or an image is in two splits.
        """
        splits: dict[str, _Split] = {}
        files = self._files(request)
        for given, path in files.items():
            rows = read_captions(path, How.of(request.facts), **self.columns)
            folder = self._folder(path, rows)
            for row in rows:
                split = given or split_called(row.split, f"{printable(path)}, {row.place}")
                splits.setdefault(split, _Split()).add(folder / row.image, row)
            if not request.skip:
                missing = [place for found in splits.values() for place in found.missing()]
                refuse(path, "name an image that is not there", missing)
        if "train" not in splits:
            raise DataError(f"{request.name}: no captions of a split `train`, only of {', '.join(sorted(splits))}.")
        _check_apart(request, splits)
        notes: list[str] = []
        tables = {split: splits[split].table() for split in SPLITS if split in splits}
        if "test" not in tables:
            tables = take_test_split(tables, request, notes, lacking="test split")
        return LoadedTables(tables, notes=notes, where=next(iter(files.values())).parent)

    def _files(self, request: Request) -> dict[str, Path]:
        """Return the caption file of each split; a single file for all splits has an empty name."""
        root = request.root
        if self.file is not None:
            path = root / self.file
            if not path.is_file():
                raise _wrong_root(request, f"there is no caption file {printable(path)}")
            return {"": path}
        if root.is_file():
            return {"": root}
        listed = self._listed(root) if root.is_dir() else []
        by_split: dict[str, list[Path]] = {}
        for path in listed:
            by_split.setdefault(split_of_file(path), []).append(path)
        plain = by_split.pop("", [])
        if "train" in by_split:
            plain = []
        for split, paths in (by_split if "train" in by_split else {"": plain}).items():
            if len(paths) > 1:
                names = ", ".join(printable(path.name) for path in paths)
                what = f"captions of {split}" if split else "captions"
                raise _wrong_root(request, f"{len(paths)} files may hold the {what} ({names}); choose: data.file=NAME")
        if "train" in by_split:
            return {split: paths[0] for split, paths in by_split.items()}
        if not plain:
            raise _wrong_root(request, "there is no caption file")
        return {"": plain[0]}

    @staticmethod
    def _listed(root: Path) -> list[Path]:
        """Return the files that may hold captions; only those with a telling name where there are any."""
        files = sorted(p for p in root.iterdir() if p.suffix.lower() in SUFFIXES and not foreign(p.name))
        named = [p for p in files if "caption" in p.stem.lower() or split_of_file(p)]
        return named or [p for p in files if not p.stem.lower().startswith(("readme", "license", "licence"))]

    def _folder(self, path: Path, rows: list[Row]) -> Path:
        """Return the folder that has most of some evenly spaced images; the first of equal ones."""
        if self.images is not None:
            return path.parent / self.images
        drawn = [row.image for row in rows[:: max(1, len(rows) // _LOOKED_AT)]]
        folders = [path.parent, *(path.parent / name for name in _FOLDERS)]
        return max(folders, key=lambda folder: sum((folder / image).is_file() for image in drawn))


IMAGES = ("Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset")
TEXTS = ("captions.txt", "Flickr8k.token.txt", "Flickr8k_text/Flickr8k.token.txt")
LISTS = {"train": ("train",), "val": ("dev", "val"), "test": ("test",)}
EXPECTS = ("|".join(IMAGES), "|".join(TEXTS))


class Flickr8k:
    """Flickr8k (Hodosh, Young and Hockenmaier 2013): 8,000 photographs with five captions each.

    The captions are Kaggle's `captions.txt` or the authors' `Flickr8k.token.txt`. The splits are the authors' lists;
    without them a test split is set aside. One entry of the authors' file does not name an image and is omitted.
    """

    def locate(self, request: Request) -> Path | None:
        return locate(request, EXPECTS)

    def load(self, request: Request) -> LoadedTables:
        """Load the captions and the splits.

        Raises:
            DataError: the data set is missing, a file cannot be read, or images are missing.
        """
        root = locate_or_fetch(request, EXPECTS, None)
        folder = next(root / name for name in IMAGES if (root / name).is_dir())
        path = next(root / name for name in TEXTS if (root / name).is_file())
        rows = read_captions(path) if path.name == "captions.txt" else list(_token_rows(path))
        odd = [row for row in rows if not row.image.lower().endswith(EXTENSIONS)]
        whole = _Split()
        for row in rows:
            if row.image.lower().endswith(EXTENSIONS):
                whole.add(folder / row.image, row)
        notes = [f"{request.name}: {len(odd)} captions of {odd[0].image}, no image's name, are left out"] if odd else []
        listed = {split: self._list(root, names) for split, names in LISTS.items()}
        if listed["train"] and listed["test"]:
            splits = {split: self._chosen(whole, folder, names) for split, names in listed.items() if names}
            unlisted = len(whole.captions) - sum(len(s.captions) for s in splits.values())
            if unlisted:
                notes.append(f"{request.name}: {unlisted:,} images are in no list of the splits and are left out")
        else:
            splits = {"train": whole}
        if not request.skip:
            refuse(path, "name an image that is not there", [p for s in splits.values() for p in s.missing()])
        tables = {split: found.table() for split, found in splits.items()}
        if "test" not in tables:
            tables = take_test_split(tables, request, notes, lacking="list of the test split")
        return LoadedTables(tables, notes=notes, where=root)

    @staticmethod
    def _list(root: Path, names: Sequence[str]) -> list[str]:
        for folder in (root, root / "Flickr8k_text"):
            for name in names:
                path = folder / f"Flickr_8k.{name}Images.txt"
                if path.is_file():
                    return read_text(path).split()
        return []

    @staticmethod
    def _chosen(whole: _Split, folder: Path, names: list[str]) -> _Split:
        paths = [folder / name for name in names]
        without = [p.name for p in paths if p not in whole.captions]
        if without:
            raise DataError(
                f"{printable(folder.parent)}: {len(without):,} images of the split lists have no caption: "
                f"{', '.join(without[:5])}."
            )
        return _Split({p: whole.captions[p] for p in paths}, {p: whole.places[p] for p in paths})


def _token_rows(path: Path) -> list[Row]:
    """Return the rows of the authors' layout: `NAME.jpg#0`, a tab, the caption."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        name, tab, text = line.partition("\t")
        if not tab or not text.strip():
            raise DataError(f"{printable(path)}, line {number}: `IMAGE#NUMBER`, a tab and a caption are expected.")
        rows.append(Row(name.rpartition("#")[0] or name, text, None, f"line {number}"))
    return rows


def _check_apart(request: Request, splits: dict[str, _Split]) -> None:
    """Check that no image is in two splits, so that a model is not tested on its training images."""
    seen: dict[Path, str] = {}
    for split, found in splits.items():
        both = [path for path in found.captions if seen.setdefault(path, split) != split]
        if both:
            raise DataError(
                f"{request.name}: {len(both):,} images are in {seen[both[0]]} and in {split}, the first "
                f"{printable(both[0])}. An image belongs to one split."
            )


def _wrong_root(request: Request, what: str) -> DataError:
    return DataError(
        f"{request.name}: {what}.\n  Expected:\n{_TREE}\n  Found: {found_in(request.root)}\n"
        "  Name the folder or the file with data.root=PATH."
    )
