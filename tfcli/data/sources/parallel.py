"""Sources of sentences and their translations: one file per language, line by line, or a table."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.fetch import found_in
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.data.common.splitnames import split_of_file
from tfcli.data.sources.hub import hub_tables
from tfcli.data.sources.tables import Table, read_lines, read_text
from tfcli.data.sources.textcolumns import gathered
from tfcli.data.sources.texttables import OwnTable
from tfcli.errors import ConfigError, DataError

SEGMENT = re.compile(r"<seg[^>]*>(.*?)</seg>", re.IGNORECASE | re.DOTALL)
Sides = tuple[Path, Path]


class Parallel:
    """Source of two files whose lines are translations of each other.

    It reads plain lines, the `.sgm` and `.xml` files of WMT and IWSLT (one `seg` per sentence), and `train.tags` files
    without their lines of mark-up.

    Args:
        direction: source and target language: `de-en`.
        files: possible file names of each split, of which the first that exists is used. `{lang}` is the language,
            `{pair}` is `de-en` or `en-de`, `{joint}` is `deen` or `ende`. A name with `*/` is also searched in folders
            below the root. ` + ` joins the names of several files.
        needs: splits that must exist.
        hub: location on the hub, with a column for each language or a column `translation`.
    """

    def __init__(
        self,
        direction: str,
        *,
        files: Mapping[str, Sequence[str]],
        needs: Sequence[str] = ("train", "test"),
        hub: Mapping[str, Any] | None = None,
    ):
        self.direction, self.languages = direction, languages(direction)
        self.files, self.needs, self.hub = files, needs, hub

    def locate(self, request: Request) -> Path | None:
        folders = (request.root / request.folder, request.root)
        return next((f for f in folders if all(self._found(f, split, []) for split in self.needs)), None)

    def load(self, request: Request) -> LoadedTables:
        """Load all splits.

        Raises:
            DataError: the data set is missing, the two files differ in length, or a sentence is empty.
        """
        where, notes = self.locate(request), list[str]()
        if where is None:
            expects = [" or ".join(self._named(name) for name in self.files[split]) for split in self.needs]
            tables = {k: [self._of_hub(table)] for k, table in hub_tables(request, expects, self._hub()).items()}
        else:
            found = {split: self._found(where, split, notes) for split in self.files}
            encoding = request.facts.get("encoding")
            tables = {
                split: [table_of(sides, self.languages, encoding=encoding) for sides in pairs]
                for split, pairs in found.items()
                if pairs
            }
        return joined(tables, self.languages, request, notes, where)

    def _found(self, folder: Path, split: str, notes: list[str]) -> list[Sides]:
        """Return the pairs of files of a split."""
        for choice in self.files.get(split, []):
            pairs = {name: self._pair(folder, name) for name in choice.split(" + ")}
            if any(pairs.values()):
                notes += [f"{folder}: no {self._named(name)}, left out" for name, pair in pairs.items() if not pair]
                return [pair for pair in pairs.values() if pair]
        return []

    def _pair(self, folder: Path, name: str) -> Sides | None:
        a, b = self.languages
        for one, other in ((a, b), (b, a)):
            names = [name.format(lang=lang, pair=f"{one}-{other}", joint=one + other) for lang in (a, b)]
            for below in ("", "*/", "*/*/") if name.startswith("*/") else ("",):
                found = [sorted(folder.glob(below + side.removeprefix("*/"))) for side in names]
                sides = [next(iter(paths), None) for paths in found]
                if sides[0] and sides[1]:
                    return sides[0], sides[1]
        return None

    def _named(self, name: str) -> str:
        a, b = self.languages
        return name.removeprefix("*/").format(lang=f"{{{a},{b}}}", pair=self.direction, joint=a + b)

    def _hub(self) -> dict[str, Any] | None:
        """Return the location on the hub, where the name of a language pair has English last."""
        a, b = sorted(self.languages, key=lambda lang: (lang == "en", lang))
        if self.hub is None:
            return None
        return {**self.hub, "name": (self.hub.get("name") or "").format(pair=f"{a}-{b}") or None}

    def _of_hub(self, table: Table) -> Table:
        if "translation" not in table.columns:
            return table
        columns = {lang: [row.get(lang) for row in table.columns["translation"]] for lang in self.languages}
        return Table(table.where, columns, table.numbers, table.unit)


class OwnParallel:
    """Source `data=parallel`: a user's own translations.

    The root is a folder with `train.de` and `train.en` (optionally `val` and `test`), or with one such pair of files
    of any name, or a table with a column for each language, as `OwnTable` reads it.

    Args:
        direction: source and target language: `de-en`.
        columns: the table's names of the columns `source` and `target`; None means the names of the languages.
        header: names of the columns of a table without a header.
    """

    def __init__(
        self, direction: str, *, columns: Mapping[str, str | None] | None = None, header: Sequence[str] | None = None
    ):
        self.direction, self.languages = direction, languages(direction)
        called = dict(zip(("source", "target"), self.languages, strict=True))
        named = {ours: theirs for ours, theirs in (columns or {}).items() if theirs}
        self.table = OwnTable(called | named, header=header)

    def locate(self, request: Request) -> Path | None:
        return request.root if self._stems(request.root) else self.table.locate(request)

    def load(self, request: Request) -> LoadedTables:
        """Load the files or the table.

        Raises:
            DataError: there is no parallel text, or the two sides do not match.
        """
        stems = self._stems(request.root)
        if stems:
            files = {split: [f"{stem}.{{lang}}"] for split, stem in stems.items()}
            return Parallel(self.direction, files=files, needs=["train"]).load(request)
        if self.table.locate(request):
            return self.table.load(request)
        a, b = self.languages
        raise DataError(
            f"{request.name}: there is no parallel text.\n  Expected: a folder with train.{a}, train.{b} (val, test)\n"
            f"    or a table (.tsv, .csv, .jsonl) with the columns {a} and {b}\n  Found: {found_in(request.root)}\n"
            "  Name the folder or the file with data.root=PATH, the languages with data.direction=de-en."
        )

    def _stems(self, root: Path) -> dict[str, str]:
        """Return the common file name of the pair of each split; a single pair is train.

        Raises:
            DataError: several pairs may be the same split.
        """
        a, b = self.languages
        stems = [path.stem for path in sorted(root.glob(f"*.{a}")) if path.with_suffix(f".{b}").is_file()]
        found: dict[str, str] = {}
        for stem in stems:
            split = split_of_file(Path(f"{stem}.{a}"))
            if split and split in found:
                raise DataError(
                    f"{printable(root)}: {found[split]}.{a} and {stem}.{a} may both be {split}. Keep one of them there."
                )
            found[split] = stem
        if "train" not in found:
            return {"train": stems[0]} if len(stems) == 1 else {}
        return {split: stem for split, stem in found.items() if split}


def languages(direction: str) -> tuple[str, str]:
    """Return the source and target language of a direction such as `de-en`.

    Raises:
        ConfigError: the direction is not two languages.
    """
    parts = direction.split("-")
    if len(parts) != 2 or not all(parts) or parts[0] == parts[1]:
        raise ConfigError(f"`data.direction` must be two languages, as in de-en, but is {direction}.")
    return parts[0], parts[1]


def table_of(sides: Sides, names: tuple[str, str], *, encoding: str | None) -> Table:
    """Return the sentences of two files as the columns of a table.

    Raises:
        DataError: a file cannot be read, or the files differ in length.
    """
    one, other = (sentences(path, encoding) for path in sides)
    if len(one) != len(other):
        raise DataError(
            f"{printable(sides[0])} has {len(one):,} lines, but {printable(sides[1])} {len(other):,}: each must be the "
            "other's translation. Where they part company the files do not say; take them from one release."
        )
    where = f"{printable(sides[0])} and {sides[1].name}"
    return Table(where, dict(zip(names, (one, other), strict=True)), range(1, len(one) + 1))


def sentences(path: Path, encoding: str | None) -> list[str]:
    """Return the sentences of a file: its lines, or the segments of its mark-up."""
    if path.suffix in (".sgm", ".xml"):
        return [html.unescape(text) for text in SEGMENT.findall(read_text(path, encoding=encoding))]
    lines = read_lines(path, encoding=encoding)
    return [line for line in lines if not line.startswith("<")] if path.name.startswith("train.tags") else lines


def joined(
    tables: Mapping[str, Sequence[Table]],
    names: tuple[str, str],
    request: Request,
    notes: list[str],
    where: Path | None,
) -> LoadedTables:
    """Return the columns source and target of each split, from its tables one after the other."""
    columns = dict(zip(("source", "target"), names, strict=True))
    splits: dict[str, Columns] = {}
    for split, parts in tables.items():
        loaded = [gathered({split: part}, columns, [], request, notes, where).splits[split] for part in parts]
        splits[split] = {name: [text for part in loaded for text in part[name]] for name in columns}
    return LoadedTables(splits, notes=notes, where=where)
