"""Sources of samples with several files each: an image and its mask, or two images and their disparity.

The files of the samples are named by a list for each split (`ListedFiles`), or by a pattern of file names
(`MatchedFiles`). A column is a template of file names whose fields in braces are filled from the list or the pattern.
The name of a column determines the reader of its files (`READERS`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from tfcli.data.columns.filecolumn import FileColumn, check_files
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.fetch import found_in, locate, locate_or_fetch
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.images.decode import decode
from tfcli.data.images.disparity import read_disparity, read_occluded
from tfcli.data.images.masks import MaskReader
from tfcli.data.sources.meshes import read_mesh
from tfcli.data.sources.tables import read_lines
from tfcli.errors import ConfigError, DataError, nearest

READERS: dict[str, Callable[[Path], Any]] = {
    "image": decode,
    "right": decode,
    "disparity": read_disparity,
    "occluded": read_occluded,
    "mesh": read_mesh,
}
"""The function that reads the files of each column."""


class _Files:
    """Base of sources of samples with several files.

    Args:
        columns: for each column, a template of its files below the root.
        masks: class of each pixel value in the column `mask`; null means void.

    Raises:
        ConfigError: `columns` or `masks` is malformed, or a column has no reader.
    """

    expects: list[str]

    def __init__(self, columns: Mapping[str, str], masks: Mapping[int, str | None] | None):
        _check_texts("columns", columns, "{image: 'images/{id}.png'}")
        self.fields = {column: _fields(column, template) for column, template in columns.items()}
        self.columns, self.readers, self.classes = dict(columns), dict(READERS), list[str]()
        if masks is not None:
            self.readers["mask"] = reader = MaskReader(masks)
            self.classes = reader.classes
        if unknown := [column for column in columns if column not in self.readers]:
            raise ConfigError(f"`columns` are {', '.join(READERS)} and, with `masks`, mask; not {', '.join(unknown)}.")

    def read(self, root: Path) -> dict[str, dict[str, FileColumn]]:
        raise NotImplementedError

    def locate(self, request: Request) -> Path | None:
        return locate(request, self.expects)

    def load(self, request: Request) -> LoadedTables:
        """Find the data set and list its files, which are read only when needed.

        Raises:
            DataError: the data set is missing, or as in `read`.
        """
        root = locate_or_fetch(request, self.expects, None)
        return LoadedTables(self.read(root), {"mask": list(self.classes)} if self.classes else {}, where=root)


class ListedFiles(_Files):
    """Source with a list of samples for each split: one line per sample, words separated by spaces, `#` for comments.

    Args:
        lists: the list of each split, below the root. Only the list of train must exist.
        columns: for each column, a template of its files below the root; `{0}` is the first word of a line.
        masks: class of each pixel value in the column `mask`; null means void.
        strip: prefix that is removed from the words of a line, such as a folder of the author.

    Raises:
        ConfigError: `lists` is malformed or lacks train, a field of a template is no number, or as in the base.
    """

    def __init__(
        self,
        lists: Mapping[str, str],
        columns: Mapping[str, str],
        *,
        masks: Mapping[int, str | None] | None = None,
        strip: str = "",
    ):
        super().__init__(columns, masks)
        _check_texts("lists", lists, "{train: train.txt}", needs="train")
        for column, fields in self.fields.items():
            if odd := [field for field in fields if not field.isdecimal()]:
                raise ConfigError(f"`columns.{column}`: `{{{odd[0]}}}` must be the number of a word, as in `{{0}}`.")
        self.lists, self.strip = dict(lists), strip
        self.expects = [self.lists["train"], *sorted({_folder(template) for template in columns.values()})]

    def read(self, root: Path) -> dict[str, dict[str, FileColumn]]:
        """Return the columns of each split.

        Raises:
            DataError: a list is missing or empty, a line is too short, or files are missing.
        """
        there = {split: root / name for split, name in self.lists.items() if (root / name).is_file()}
        if "train" not in there:
            raise DataError(f"{printable(root / self.lists['train'])} is missing: it lists the samples to train on.")
        return {split: self._split(root, path) for split, path in there.items()}

    def _split(self, root: Path, path: Path) -> dict[str, FileColumn]:
        lines = [
            (number, [word.removeprefix(self.strip) for word in line.split()])
            for number, line in enumerate(read_lines(path), 1)
        ]
        samples = [(number, words) for number, words in lines if words and not words[0].startswith("#")]
        if not samples:
            raise DataError(f"{printable(path)} lists no samples.")
        found = {}
        for column, template in self.columns.items():
            files = [root / _filled(template, words, path, number) for number, words in samples]
            check_files(files, path, column, mend="take their lines out of the list")
            found[column] = FileColumn(files, self.readers[column])
        return found


def _filled(template: str, words: Sequence[str], path: Path, number: int) -> str:
    try:
        return template.format(*words)
    except IndexError:
        raise DataError(f"{printable(path)}, line {number}: {len(words)} words, but `{template}` takes more.") from None


class MatchedFiles(_Files):
    """Source whose file names follow a pattern.

    Args:
        splits: the word that replaces `{split}` for each split. Only the folder of train must exist.
        columns: for each column, a template of its files below the root. In the first template, a field in braces
            matches any part of a path, also several folders (`{split}/{scene}/im0.png`); the other templates use the
            same fields.
        masks: class of each pixel value in the column `mask`; null means void.
        optional: columns that a split may lack entirely.

    Raises:
        ConfigError: `splits` is malformed or lacks train, the first template has a field twice or one without a name,
            another template has a field that the first lacks, or as in the base.
    """

    def __init__(
        self,
        splits: Mapping[str, str],
        columns: Mapping[str, str],
        *,
        masks: Mapping[int, str | None] | None = None,
        optional: Sequence[str] = (),
    ):
        super().__init__(columns, masks)
        _check_texts("splits", splits, "{train: train, test: test}", needs="train")
        first, *others = self.fields
        named = [field for field in self.fields[first] if field != "split"]
        for field in named:
            if not field.isidentifier():
                raise ConfigError(f"`columns.{first}`: `{{{field}}}` must be a name in braces, as in `{{id}}`.")
            if named.count(field) > 1:
                raise ConfigError(f"`columns.{first}`: `{{{field}}}` must occur only once in the first template.")
        for column in others:
            if odd := [field for field in self.fields[column] if field not in ("split", *named)]:
                raise ConfigError(
                    f"`columns.{column}`: `columns.{first}` has no field `{{{odd[0]}}}`.{nearest(odd[0], named)} "
                    f"It has {', '.join(f'{{{field}}}' for field in ('split', *named))}."
                )
        self.splits, self.optional = dict(splits), tuple(optional)
        self.expects = [_folder(self._template("train"))]

    def _template(self, split: str) -> str:
        """Return the template of the first column's files of a split."""
        return next(iter(self.columns.values())).replace("{split}", self.splits[split])

    def read(self, root: Path) -> dict[str, dict[str, FileColumn]]:
        """Return the columns of each split.

        Raises:
            DataError: no file matches the first template, or a file of another column is missing.
        """
        there = [split for split in self.splits if split == "train" or (root / _folder(self._template(split))).is_dir()]
        return {split: self._split(root, split) for split in there}

    def _split(self, root: Path, split: str) -> dict[str, FileColumn]:
        template = self._template(split)
        folder, pattern = root / _folder(template), _pattern(template)
        matches = [pattern.fullmatch(path.relative_to(root).as_posix()) for path in sorted(folder.rglob("*"))]
        names = [{**matched.groupdict(), "split": self.splits[split]} for matched in matches if matched]
        if not names:
            raise DataError(
                f"No file is called {printable(root / template)}.\n  Found in {printable(folder)}: {found_in(folder)}"
            )
        found = {}
        for column, other in self.columns.items():
            paths = [root / other.format(**name) for name in names]
            if column in self.optional and not any(path.is_file() for path in paths):
                continue
            check_files(paths, root / other, column, mend="remove the other files of these samples")
            found[column] = FileColumn(paths, self.readers[column])
        return found


def _check_texts(key: str, found: Any, example: str, *, needs: str | None = None) -> None:
    """Check that a setting maps names to texts, and has the name `needs`.

    Raises:
        ConfigError: it does not; the message names the key.
    """
    if not (isinstance(found, Mapping) and found and all(isinstance(text, str) for text in found.values())):
        raise ConfigError(f"`{key}` must map names to texts, for instance {example}, but is {found!r}.")
    if needs and needs not in found:
        raise ConfigError(f"`{key}` must have `{needs}`, for instance {example}, but has only {', '.join(found)}.")


def _fields(column: str, template: str) -> list[str]:
    """Return the names in braces of a column's template.

    Raises:
        ConfigError: a brace is not closed, or not opened.
    """
    try:
        return [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    except ValueError:
        raise ConfigError(f"`columns.{column}`: a brace is not closed, or not opened, in `{template}`.") from None


def _folder(template: str) -> str:
    """Return the innermost folder of a template before its first field."""
    return template.split("{")[0].rpartition("/")[0] or "."


def _pattern(template: str) -> re.Pattern[str]:
    """Return a regular expression for the paths of a template; a field matches the shortest possible part."""
    literals = re.split(r"\{(\w+)\}", template)
    return re.compile("".join(f"(?P<{part}>.+?)" if i % 2 else re.escape(part) for i, part in enumerate(literals)))
