"""Readers of caption files in the common layouts; every row keeps its line number for messages.

    .tsv .csv .txt    a header, then one line per caption with columns for image and caption, and optionally `split`
    .jsonl            one object per line with the same keys; the caption may be a list
    .json             a list of such objects; COCO's `images` and `annotations`; Karpathy's `images` with `sentences`

A missing, empty or ambiguous cell is an error that names its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcli.data.common.printable import printable
from tfcli.data.sources.separated import How
from tfcli.data.sources.tables import SUFFIXES, Table, parsed, read_table, read_text, refuse
from tfcli.errors import DataError

IMAGE_COLUMNS = ("image", "filepath", "file_path", "file_name", "filename", "image_path", "path", "img", "file")
CAPTION_COLUMNS = ("caption", "captions", "title", "text", "sentence", "sentences", "description", "comment")


@dataclass
class Row:
    """One caption: the name of the image in the file, the text, the split if given, and the place for messages."""

    image: str
    text: str
    split: str | None
    place: str


def read_captions(
    path: Path, how: How | None = None, *, image_column: str | None = None, caption_column: str | None = None
) -> list[Row]:
    """Return the rows of a caption file.

    Args:
        path: the file; its suffix determines the layout.
        how: settings of a text table.
        image_column, caption_column: names of the columns; None searches for the usual names.

    Raises:
        DataError: the file cannot be read, lacks a column, or has rows without an image or a caption.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{printable(path)} is no caption file: its name must end with {', '.join(SUFFIXES)}.")
    content = parsed(path, read_text(path)) if path.suffix.lower() == ".json" else None
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        rows = list(_coco(path, content))
    elif isinstance(content, dict) and isinstance(content.get("images"), list):
        rows = list(_karpathy(path, content["images"]))
    elif isinstance(content, dict):
        raise DataError(
            f"{printable(path)} is neither a list of objects, nor COCO's `images` and `annotations`, nor Karpathy's "
            "`images` with `sentences`."
        )
    else:
        rows = list(_rows(read_table(path, how), image_column, caption_column))
    refuse(path, "without a caption", [r.place for r in rows if not r.text.strip()])
    refuse(path, "without an image", [r.place for r in rows if not r.image.strip()])
    if not rows:
        raise DataError(f"{printable(path)} has no captions.")
    return rows


def _rows(table: Table, image_column: str | None, caption_column: str | None) -> Iterator[Row]:
    images = table.column(_column(table, "image", image_column))
    captions = table.column(_column(table, "caption", caption_column))
    named = next((name for name in table.columns if name.lower() == "split"), None)
    splits = table.columns[named] if named else [None] * len(table)
    for row, (image, texts, split) in enumerate(zip(images, captions, splits, strict=True)):
        for text in texts if isinstance(texts, list) and texts else [texts or ""]:
            caption = text.get("raw", "") if isinstance(text, dict) else text
            if not isinstance(caption, str) or not isinstance(image or "", str):
                raise DataError(f"{table.where}, {table.place(row)}: image and caption must be text.")
            yield Row(image or "", caption, split, table.place(row))


def _column(table: Table, what: str, asked: str | None) -> str:
    """Return the name of a column: the requested one, or else a usual one."""
    if asked:
        return asked
    usual, lower = IMAGE_COLUMNS if what == "image" else CAPTION_COLUMNS, {name.lower(): name for name in table.columns}
    name = next((lower[name] for name in usual if name in lower), None)
    if name is None:
        raise DataError(
            f"{table.where} has no column for the {what}s ({', '.join(usual[:5])}, ...); it has "
            f"{table.shown_columns()}. Name it with data.{what}_column=NAME."
        )
    return name


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
