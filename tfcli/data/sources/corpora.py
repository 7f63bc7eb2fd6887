"""Sources of running text: one document per row, with its line breaks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from tfcli.data.columns.filetext import FileText, remembered
from tfcli.data.columns.tables import LoadedTables, Source
from tfcli.data.common.entries import foreign
from tfcli.data.common.fetch import found_in, locate, locate_or_fetch, present
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.data.common.splitnames import split_of_file
from tfcli.data.sources.documents import PACKED, read_document
from tfcli.data.sources.hub import hub_texts
from tfcli.errors import DataError


class Document:
    """One file with one document, which is training text; the data module sets aside its end.

    Args:
        file: name of the file below the root.
        link: URL for the download; None where there is none.
    """

    def __init__(self, file: str, *, link: str | None = None):
        self.file, self.link = file, link

    def locate(self, request: Request) -> Path | None:
        return locate(request, [self.file])

    def load(self, request: Request) -> LoadedTables:
        """Load the document.

        Raises:
            DataError: the file is missing, cannot be read, or is not UTF-8.
        """
        root = locate_or_fetch(request, [self.file], self._fetch if self.link else None)
        return LoadedTables({"train": {"text": [read_document(root / self.file)]}}, where=root)

    def _fetch(self, folder: Path) -> None:
        from urllib.request import urlretrieve

        urlretrieve(str(self.link), folder / self.file)


class OwnText:
    """Source `data=text`: a user's text file, or a folder of text files.

    A folder with `train.txt` has its other splits in `val.txt` and `test.txt` (or `valid`, `dev`, ...). In any other
    folder, every `.txt` file is a document. Files may be packed (`.gz`, `.zst`). The data module sets aside missing
    validation and test splits.
    """

    def locate(self, request: Request) -> Path | None:
        return request.root if self._files(request.root) else None

    def load(self, request: Request) -> LoadedTables:
        """Load the files.

        Raises:
            DataError: there is no file, or a file is empty or not in `data.encoding`.
        """
        files = self._files(request.root)
        if not files:
            raise DataError(
                f"{request.name}: there is no text.\n  Expected: a text file, or a folder with train.txt (val.txt, "
                f"test.txt), or with any .txt, .gz or .zst files\n  Found: {found_in(request.root)}\n"
                "  Name the folder or the file with data.root=PATH."
            )
        splits: dict[str, Columns] = {}
        for split, path in files:
            text = read_document(path, encoding=request.facts.get("encoding"))
            if isinstance(text, str) and not text.strip():
                raise DataError(f"{printable(path)} is empty.")
            splits.setdefault(split, {"text": []})["text"].append(text)
        return LoadedTables(splits, where=request.root)

    @staticmethod
    def _files(root: Path) -> list[tuple[str, Path]]:
        """Return the split and the path of each file."""
        if root.is_file():
            return [("train", root)]
        entries = sorted(root.iterdir()) if root.is_dir() else []
        listed = [path for path in entries if path.suffix.lower() in (".txt", *PACKED) and not foreign(path.name)]
        plain = [path.with_suffix("") if path.suffix.lower() in PACKED else path for path in listed]
        named = [(split_of_file(name), path) for name, path in zip(plain, listed, strict=True) if split_of_file(name)]
        return named if any(split == "train" for split, _ in named) else [("train", path) for path in listed]


ARTICLE = re.compile(r"^ = [^=].* = $")


class WikiText:
    """WikiText-2 and -103 (Merity et al. 2017): articles of Wikipedia, split into words, with `<unk>` for rare words.

    Where only `valid` and `test` exist, training uses `valid`.

    Args:
        inside: folders below the root into which the archives unpack.
        hub: location on the hub; see `tfcli.data.sources.hub`.
    """

    def __init__(self, *, inside: Sequence[str], hub: Mapping[str, Any] | None = None):
        self.hub, stems = hub, ("", *(f"{folder}/" for folder in inside))
        self.files = {
            split: "|".join(f"{stem}{file}.{kind}" for kind in ("tokens", "raw") for stem in stems)
            for split, file in {"train": "wiki.train", "val": "wiki.valid", "test": "wiki.test"}.items()
        }

    def locate(self, request: Request) -> Path | None:
        return locate(request, [self.files["val"], self.files["test"]])

    def load(self, request: Request) -> LoadedTables:
        """Load the articles of each split.

        Raises:
            DataError: the data set is missing or cannot be read.
        """
        where, expects = self.locate(request), [self.files["val"], self.files["test"]]
        if where is None:
            found = hub_texts(request, expects, self.hub, "text")
        else:
            paths = {split: present(where, file) for split, file in self.files.items()}
            found = {split: read_document(path) for split, path in paths.items() if path is not None}
        texts = {split: _articles_of(text) for split, text in found.items()}
        notes = []
        if "train" not in texts:
            texts = {"train": texts["val"], "test": texts["test"]}
            notes.append(f"{request.name}: there is no wiki.train.tokens; training takes wiki.valid.tokens")
        splits: dict[str, Columns] = {split: {"text": rows} for split, rows in texts.items()}
        return LoadedTables(splits, notes=notes, where=where)


def articles(lines: Sequence[str]) -> list[str]:
    """Split lines into articles at their titles, lines ` = Title = ` between empty ones (not ` = = Section = = `)."""
    starts = [row for row, _, _ in _begins(lines)]
    found = ["\n".join(lines[a:b]) for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)]
    return [text for text in found if text.strip()]


def _articles_of(text: str | FileText) -> list[Any]:
    """Return the articles of a file; those of a large file stay there, and their places are kept in the cache."""
    if isinstance(text, str):
        return articles(text.split("\n"))
    key = [*text.key, ARTICLE.pattern]
    begins = remembered("articles", key, lambda: [place[1:] for place in _begins(text.lines())])
    return text.documents(begins)


def _begins(lines: Iterable[str]) -> list[tuple[int, int, int]]:
    """Return the number of lines, characters and bytes before each article."""
    found, before, here, title, after_blank = [], (0, 0, 0), (0, 0, 0), False, True
    for line in chain(lines, [""]):
        blank = not line.strip()
        if title and blank:
            found.append(before)  # the place of the line before this one
        title, after_blank = after_blank and bool(ARTICLE.match(line)), blank
        row, characters, size = before = here
        here = row + 1, characters + len(line) + 1, size + len(line.encode("utf-8", "surrogatepass")) + 1
    return [(0, 0, 0), *found[1:]]


class Mixture:
    """The texts of several data sets, without their labels, for pre-training.

    Args:
        parts: for each data set its `source`; optionally `folder` (by default its name) and `splits` (by default all);
            `whole: true` omits the texts that are part of another text, such as the phrases of SST-2's sentences.
    """

    def __init__(self, parts: Mapping[str, Mapping[str, Any]]):
        self.parts = parts

    def _requests(self, request: Request) -> list[tuple[str, Source, Request]]:
        return [
            (name, part["source"], replace(request, name=name, facts={**request.facts, "folder": part.get("folder")}))
            for name, part in self.parts.items()
        ]

    def locate(self, request: Request) -> Path | None:
        found = [source.locate(own) for _, source, own in self._requests(request)]
        return request.root if all(found) else None

    def load(self, request: Request) -> LoadedTables:
        """Load all data sets.

        Raises:
            DataError: a data set is missing.
        """
        splits: dict[str, Columns] = {}
        notes: list[str] = []
        for name, source, own in self._requests(request):
            loaded = source.load(own)
            part = self.parts[name]
            for split in part.get("splits") or loaded.splits:
                columns = loaded.splits[split]
                texts = [text for column in ("text", "pair") for text in columns.get(column, [])]
                kept = whole(list(map(str, texts))) if part.get("whole") else texts
                note = f", {len(kept):,} of them part of no other" if part.get("whole") else ""
                notes.append(f"{request.name}: {len(texts):,} texts of {name} ({split}){note}")
                splits.setdefault(split, {"text": []})["text"] += kept
            notes += loaded.notes
        return LoadedTables(splits, notes=notes, where=request.root)


def whole(texts: Sequence[str]) -> list[str]:
    """Return the texts that are not a run of words in a longer text, without repetition, in their order.

    A run of words is a prefix of some suffix of the longer text. In the sorted list of all suffixes, it therefore
    stands directly before a suffix that it begins.
    """
    cut = {" ".join(text.split()): text for text in texts}
    ends = {text[place + 1 :] for text in cut for place, letter in enumerate(text) if letter == " "}
    ranked = sorted(ends | cut.keys())
    begins = {one for one, other in pairwise(ranked) if other.startswith(f"{one} ")}
    return [text for words, text in cut.items() if words not in ends and words not in begins]
