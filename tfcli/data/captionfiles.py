"""Files that say which captions an image has, in the layouts in use, read into rows with their line numbers.

    .tsv .csv .txt    a header and a column each for image and caption, a line a caption (`split` too, where it is)
    .jsonl            an object a line, with the same keys; the caption may be a list
    .json             a list of such objects; COCO's `images` and `annotations`; Karpathy's `images` with `sentences`

Nothing is guessed silently: what is missing, empty or twice there is an error with its rows.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcli.data.decode import printable
from tfcli.errors import DataError, nearest

IMAGE_COLUMNS = ("image", "filepath", "file_path", "file_name", "filename", "image_path", "path", "img", "file")
CAPTION_COLUMNS = ("caption", "captions", "title", "text", "sentence", "sentences", "description", "comment")
SPLIT_NAMES = {"train": "train", "restval": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
SPLIT_NAMES |= {"test": "test"}
SUFFIXES = (".tsv", ".csv", ".txt", ".jsonl", ".json")
_SHOWN = 10


@dataclass
class Row:
    """One caption: the image's name as the file has it, the text, the split if it says one, and where it stands."""

    image: str
    text: str
    split: str | None
    place: str


def read_captions(path: Path, *, image_column: str | None = None, caption_column: str | None = None) -> list[Row]:
    """The rows of a caption file.

    Args:
        path: of one of the layouts above, told apart by suffix.
        image_column, caption_column: names of the columns; None: the usual ones are looked for.

    Raises:
        DataError: unreadable, no such column, or rows without an image or a caption.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{printable(path)} is no caption file: its name must end with {', '.join(SUFFIXES)}.")
    text = read_text(path)
    wanted = (image_column, caption_column)
    if path.suffix.lower() == ".json":
        rows = list(_json(path, text, wanted))
    elif path.suffix.lower() == ".jsonl":
        lines = ((f"line {i}", line) for i, line in enumerate(text.splitlines(), 1) if line.strip())
        rows = list(_objects(path, ((place, _parsed(path, line, place)) for place, line in lines), wanted))
    else:
        rows = list(_table(path, text, wanted))
    refuse(path, "without a caption", [r.place for r in rows if not r.text.strip()])
    refuse(path, "without an image", [r.place for r in rows if not r.image.strip()])
    if not rows:
        raise DataError(f"{printable(path)} has no captions.")
    return rows


def refuse(path: Path, what: str, places: Sequence[str]) -> None:
    """Raise DataError with the first ten places and their number; nothing where there are none."""
    if places:
        more = f", and {len(places) - _SHOWN:,} more" if len(places) > _SHOWN else ""
        raise DataError(f"{printable(path)}: {len(places):,} rows {what}: {', '.join(places[:_SHOWN])}{more}.")


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte-order mark.

    Raises:
        DataError: it cannot be read, or a line (named) is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{printable(path)} cannot be read: {error.strerror or error}.") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{printable(path)}, line {line}: not UTF-8 ({error.reason}). Convert the file.") from None


def _table(path: Path, text: str, wanted: tuple[str | None, str | None]) -> Iterator[Row]:
    head = text.split("\n", 1)[0]
    tabs = path.suffix.lower() == ".tsv" or "\t" in head
    lines = io.StringIO(text, newline="")
    if tabs:  # they need no quotes, and captions have odd ones
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        image, caption, split = _columns(path, names, wanted)
        for cells in reader:
            place = f"line {reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(names):
                raise DataError(
                    f"{printable(path)}, {place}: {len(cells)} columns, but the header has {len(names)} "
                    f"({', '.join(names)}). Captions with commas must be in quotes."
                )
            yield Row(cells[image], cells[caption], None if split is None else cells[split], place)
    except csv.Error as error:
        raise DataError(f"{printable(path)}, line {reader.line_num}: {error}.") from None


def _columns(path: Path, names: list[str], wanted: tuple[str | None, str | None]) -> tuple[int, int, int | None]:
    lower = [name.lower() for name in names]
    found = []
    for what, asked, usual in (("image", wanted[0], IMAGE_COLUMNS), ("caption", wanted[1], CAPTION_COLUMNS)):
        name = asked if asked in names else None if asked else next((n for n in usual if n in lower), None)
        if name is None:
            raise _no_column(path, what, asked, names)
        found.append(names.index(name) if asked else lower.index(name))
    return found[0], found[1], lower.index("split") if "split" in lower else None


def _no_column(path: Path, what: str, asked: str | None, names: Iterable[str]) -> DataError:
    names = [str(name) for name in names]
    usual = IMAGE_COLUMNS if what == "image" else CAPTION_COLUMNS
    looked = f"`{asked}`" if asked else f"for the {what}s ({', '.join(usual[:5])}, ...)"
    hint = nearest(asked, names) if asked else f" Name it with data.{what}_column=NAME."
    shown = ", ".join(printable(name) for name in names[:_SHOWN]) or "none"
    return DataError(f"{printable(path)} has no column {looked}; it has {shown}.{hint}")


def _parsed(path: Path, text: str, place: str | None = None) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line = place or f"line {getattr(error, 'lineno', 1)}"
        reason = getattr(error, "msg", "nested too deeply")
        raise DataError(f"{printable(path)}, {line}: not JSON ({reason}).") from None


def _json(path: Path, text: str, wanted: tuple[str | None, str | None]) -> Iterator[Row]:
    content = _parsed(path, text)
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        yield from _coco(path, content)
    elif isinstance(content, dict) and isinstance(content.get("images"), list):
        yield from _karpathy(path, content["images"])
    elif isinstance(content, list):
        yield from _objects(path, ((f"entry {i}", entry) for i, entry in enumerate(content, 1)), wanted)
    else:
        raise DataError(
            f"{printable(path)} is neither a list of objects, nor COCO's `images` and `annotations`, nor Karpathy's "
            "`images` with `sentences`."
        )


def _objects(path: Path, entries: Iterable[tuple[str, Any]], wanted: tuple[str | None, str | None]) -> Iterator[Row]:
    for place, entry in entries:
        if not isinstance(entry, dict):
            raise DataError(f"{printable(path)}, {place}: an object is expected, with an image and a caption.")
        values = []
        for what, asked, usual in (("image", wanted[0], IMAGE_COLUMNS), ("caption", wanted[1], CAPTION_COLUMNS)):
            name = next((n for n in ((asked,) if asked else usual) if n in entry), None)
            if name is None:
                raise DataError(f"{place}: {_no_column(path, what, asked, entry)}")
            values.append(entry[name])
        image, captions = values
        captions = captions if isinstance(captions, list) else [captions]
        split = entry.get("split")
        for caption in captions or [""]:
            caption = caption.get("raw", "") if isinstance(caption, dict) else caption
            if not isinstance(caption, str) or not isinstance(image, str):
                raise DataError(f"{printable(path)}, {place}: image and caption must be text.")
            yield Row(image, caption, split, place)


def _coco(path: Path, content: dict[str, Any]) -> Iterator[Row]:
    names: dict[Any, str] = {}
    try:
        for image in content["images"]:
            if image["id"] in names:
                raise DataError(f"{printable(path)}: two images have the id {image['id']}.")
            names[image["id"]] = image["file_name"]
        rows = [(i, a["image_id"], a["caption"]) for i, a in enumerate(content["annotations"], 1)]
    except (KeyError, TypeError) as error:
        key = str(error).strip("'\"")
        raise DataError(f"{printable(path)} is no COCO caption file: an entry lacks `{key}`.") from None
    refuse(path, "of images that are not listed", [f"annotation {i}" for i, image, _ in rows if image not in names])
    for i, image, caption in rows:
        yield Row(str(names[image]), str(caption), None, f"annotation {i}")


def _karpathy(path: Path, images: list[Any]) -> Iterator[Row]:
    for i, image in enumerate(images, 1):
        try:
            name = "/".join(part for part in (image.get("filepath"), image["filename"]) if part)
            texts = [sentence["raw"] for sentence in image["sentences"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{printable(path)}, image {i}: no {error} (Karpathy's layout is expected).") from None
        for text in texts or [""]:
            yield Row(name, text, image.get("split"), f"image {i}")
