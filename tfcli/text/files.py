"""Files of tokenizers, read with care: of any size up to 64 MiB, packed or not. Imports no torch."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfcli.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

MAX_BYTES = 64 * 2**20


def read_text(path: Path) -> str:
    """Read the whole of a text file, unpacked where its name ends in `.gz`, at most 64 MiB of it.

    Raises:
        DataError: it cannot be read, is larger, or is no UTF-8.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError) as error:
        raise DataError(f"`{path}` cannot be read: {error}.") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"`{path}` is larger than {MAX_BYTES // 2**20} MiB, too large for a tokenizer; refused.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"`{path}` is not text: {error}.") from error


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise DataError(f"`{path}` is not JSON: {error}.") from error


def read_ids(path: Path) -> dict[str, int]:
    """Read a `vocab.json`: tokens and their ids."""
    ids = read_json(path)
    if not isinstance(ids, dict) or not all(isinstance(number, int) for number in ids.values()):
        raise DataError(f"`{path}` is not a vocabulary: a table of tokens and ids was expected.")
    return ids


def read_merges(path: Path) -> list[tuple[str, str]]:
    """Read a `merges.txt`: a pair a line, below a line of version where there is one."""
    return [
        pair(line, path) for line in read_text(path).split("\n") if line.strip() and not line.startswith("#version")
    ]


def pair(line: str, path: Path) -> tuple[str, str]:
    """Return the two symbols of a line."""
    parts = line.split()
    if len(parts) != 2:
        raise DataError(f"`{path}` is not a list of pairs: found the line {short(line)!r}.")
    return parts[0], parts[1]


def read_backend(path: Path) -> Backend:
    """Read a `tokenizer.json`, as the `tokenizers` library writes it."""
    from tokenizers import Tokenizer as Backend

    text = read_text(path)
    try:
        return Backend.from_str(text)
    except Exception as error:  # the library raises bare exceptions
        raise DataError(f"`{path}` is not a tokenizer: {str(error).splitlines()[0][:200]}") from error


def short(text: str) -> str:
    """Return at most 60 characters of a text, in one line, for an error."""
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= 60 else text[:57] + "..."
