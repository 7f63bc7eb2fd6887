"""Texts as tokens: one flat array of ids for all documents of a split, in memory or memory-mapped.

A large split is encoded once, piece by piece, into the user's cache folder; runs, ranks and jobs of a sweep share the
file, and what they do not read takes no memory. Its name has the digests of the text and of the tokenizer. Tokens that
have not been used for longest are removed where new ones need the space; see `tfcli.data.common.cachespace`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tfcli.data.columns.checks import table_digest
from tfcli.data.columns.filetext import PIECE, FileText, pieces, unwritable
from tfcli.data.common.cachespace import make_room, mark_used
from tfcli.data.common.workers import cores
from tfcli.files import alone, cache_root, sync_folder
from tfcli.text.tokenizer import Tokenizer

VERSION = 1  # of the encoding and of the layout of the files, part of the cache key
IN_MEMORY = 4 * 2**20
"""Largest number of characters of a split whose tokens are not written to the cache."""
_CONTEXT = 256
"""Characters on both sides of a piece that are encoded with it, so that its tokens are those of the whole text."""
_SPACE = np.array([chr(code).isspace() for code in range(0x3002)])

Part = dict[str, np.ndarray]


class Tokens:
    """Named flat arrays of all documents of a split; of a memory-mapped array, processes share one copy.

    Args:
        arrays: the arrays.
        folder: where they are memory-mapped; None where they are in memory.
    """

    def __init__(self, arrays: Part, folder: Path | None = None):
        self.arrays, self.folder = arrays, folder

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({"arrays": {}} if self.folder else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        if self.folder:
            self.arrays = _opened(self.folder)


def running_text(texts: Sequence[str | FileText], tokenizer: Tokenizer) -> Tokens:
    """Return the documents in sequence, each followed by the end-of-text token, where the vocabulary has one.

    Before the first document stands the start token, or the end-of-text token again where there is no start token.

    Returns:
        `ids` (N,); `sizes` (N, 3), the characters, bytes and words that each token adds; `documents` (D,), the tokens
        of each document with its end.
    """
    end = tokenizer.eos_id
    none = np.zeros((1, 3), dtype=np.int64)

    def parts() -> Iterator[Part]:
        for number, document in enumerate(_documents(texts, tokenizer)):
            if end is not None and number == 0:
                yield {"ids": np.array([end if tokenizer.bos_id is None else tokenizer.bos_id]), "sizes": none}
            total = 0
            for ids, sizes in document:
                yield {"ids": ids, "sizes": sizes}
                total += len(ids)
            if end is not None:
                yield {"ids": np.array([end]), "sizes": none}
            yield {"documents": np.array([total + (end is not None)])}

    return _kept(parts(), texts, tokenizer, "running", {"ids": (0,), "sizes": (0, 3), "documents": (0,)})


def sentences(texts: Sequence[str | FileText], tokenizer: Tokenizer, boundary: re.Pattern[str]) -> Tokens:
    """Return the sentences of all documents in sequence, without those that have no token.

    Args:
        texts: the documents.
        tokenizer: the model's tokenizer.
        boundary: what separates two sentences.

    Returns:
        `ids` (N,); `sentences` (S,), the tokens of each sentence; `documents` (D,), the sentences of each document.
    """

    def parts() -> Iterator[Part]:
        cut = (
            (number, part)
            for number, text in enumerate(texts)
            for piece in pieces(text)
            for part in boundary.split(piece)
            if part.strip()
        )
        counts = np.zeros(len(texts), dtype=np.int64)
        for batch in _batches(cut, lambda item: len(item[1])):
            found = [
                (number, ids)
                for (number, _), ids in zip(batch, tokenizer.encode([part for _, part in batch]), strict=True)
                if ids
            ]
            np.add.at(counts, [number for number, _ in found], 1)
            yield {
                "ids": np.fromiter(chain.from_iterable(ids for _, ids in found), dtype=np.int64),
                "sentences": np.array([len(ids) for _, ids in found], dtype=np.int64),
            }
        yield {"documents": counts}

    layout = f"sentences-{sha256(boundary.pattern.encode()).hexdigest()[:8]}"
    return _kept(parts(), texts, tokenizer, layout, {"ids": (0,), "sentences": (0,), "documents": (0,)})


def _kept(
    parts: Iterable[Part], texts: Sequence[str | FileText], tokenizer: Tokenizer, layout: str, empty: dict[str, Any]
) -> Tokens:
    """Return the parts joined: in memory, or in the cache folder, where they are not made again."""
    if sum(map(len, texts)) <= IN_MEMORY:
        found: dict[str, list[np.ndarray]] = {name: [np.zeros(shape, np.uint8)] for name, shape in empty.items()}
        for part in parts:
            for name, values in part.items():
                found[name].append(values.astype(_kind(values)))
        return Tokens({name: np.concatenate(arrays) for name, arrays in found.items()})
    whole = table_digest({"text": list(texts)})
    folder = cache_root() / "tokens" / f"{whole[:24]}-{tokenizer.digest}-{layout}-{VERSION}"
    with unwritable():
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with alone(folder.with_suffix(".lock")):
                if not folder.is_dir():
                    make_room(folder.parent)
                    _write(parts, folder, empty)
    mark_used(folder)
    return Tokens(_opened(folder), folder)


def _kind(values: np.ndarray) -> np.dtype:
    return np.min_scalar_type(int(values.max(initial=0)))


def _write(parts: Iterable[Part], folder: Path, empty: dict[str, Any]) -> None:
    """Write the arrays into a folder of another name, which gets its own name when it is complete."""
    for left in folder.parent.glob(f"{folder.name}.*.tmp"):  # of a killed process: this one has the lock
        shutil.rmtree(left, ignore_errors=True)
    scratch = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    scratch.mkdir()
    files: dict[str, Any] = {}
    try:
        files |= {name: open(scratch / name, "w+b") for name in empty}  # noqa: SIM115  # closed below
        kinds = dict.fromkeys(empty, np.dtype(np.uint8))
        for part in parts:
            for name, values in part.items():
                wide = np.promote_types(kinds[name], _kind(values))
                if wide != kinds[name]:
                    files[name] = _widened(files[name], kinds[name], wide)
                    kinds[name] = wide
                files[name].write(values.astype(wide).data)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
        shapes = {name: [kinds[name].name, *shape[1:]] for name, shape in empty.items()}
        (scratch / "index.json").write_text(json.dumps(shapes), encoding="utf-8")
        sync_folder(scratch)
        os.rename(scratch, folder)
        sync_folder(folder.parent)
    finally:
        for file in files.values():
            with suppress(OSError):  # of a full disk, which another error has told
                file.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _widened(file: Any, old: np.dtype, new: np.dtype) -> Any:
    """Return another file of the same name with the same numbers in a wider type."""
    file.seek(0)
    path = Path(file.name)
    path.unlink()
    wide = open(path, "w+b")  # noqa: SIM115  # the caller closes it
    with file:
        while content := file.read(2**24):
            wide.write(np.frombuffer(content, old).astype(new).data)
    return wide


def _opened(folder: Path) -> Part:
    shapes = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    found = {}
    for name, (kind, *shape) in shapes.items():
        path = folder / name
        values = np.memmap(path, np.dtype(kind), "r") if path.stat().st_size else np.zeros(0, np.dtype(kind))
        found[name] = values.reshape(-1, *shape)
    return found


# ---- encoding in pieces

Window = tuple[str, int, int]
"""A piece with its context, and the places between which the piece lies."""


def _documents(
    texts: Sequence[str | FileText], tokenizer: Tokenizer
) -> Iterator[Iterator[tuple[np.ndarray, np.ndarray]]]:
    """Yield the ids (N,) and sizes (N, 3) of the tokens of each document, piece by piece.

    Text between two tokens counts for the second, and text after the last token for the last, so that the sums are
    those of the whole text. A document must be used up before the next is asked for.
    """
    windows = ((number, window) for number, text in enumerate(texts) for window in _windows(text))
    encoded = _encoded(windows, tokenizer)
    waiting = next(encoded, None)

    def document(number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal waiting
        held: tuple[np.ndarray, np.ndarray] | None = None  # the last tokens, until it is known what follows them
        base, counted, stopped, done = np.zeros((1, 3), np.int64), np.zeros((1, 3), np.int64), 0, 0
        while waiting is not None and waiting[0] == number:
            _, (text, left, right), (ids, starts, stops) = waiting
            counts = _counts(text)
            counts += base - counts[left]
            base = counts[right : right + 1]
            own = (starts >= left) & (starts < right)
            if right == len(text):
                own |= starts >= right
            ids = ids[own]
            if len(ids):
                ends = np.maximum.accumulate(np.maximum(stops[own], stopped - done + left))
                ends = np.minimum(ends, len(text))
                stopped = done - left + int(ends[-1])
                if held is not None:
                    yield held
                held = ids, np.diff(counts[ends], axis=0, prepend=counted)
                counted = counts[ends[-1] : ends[-1] + 1]
            done += right - left
            waiting = next(encoded, None)
        if held is not None:
            held[1][-1] += (base - counted)[0]
            yield held

    for number in range(len(texts)):
        yield document(number)


def _windows(text: str | FileText) -> Iterator[Window]:
    before, found = "", pieces(text)
    piece = next(found, None)
    while piece is not None:
        after = next(found, None)
        yield before + piece + (after or "")[:_CONTEXT], len(before), len(before) + len(piece)
        before, piece = (before + piece)[-_CONTEXT:], after


def _encoded(
    windows: Iterable[tuple[int, Window]], tokenizer: Tokenizer
) -> Iterator[tuple[int, Window, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Encode several windows at once, which the tokenizer spreads over threads."""
    for batch in _batches(windows, lambda item: len(item[1][0])):
        for item, arrays in zip(batch, tokenizer.encode_arrays([window[0] for _, window in batch]), strict=True):
            yield *item, arrays


def _batches(items: Iterable[Any], size: Any) -> Iterator[list[Any]]:
    """Group items until their sizes amount to a piece for each core."""
    batch: list[Any] = []
    total = 0
    for item in items:
        batch.append(item)
        total += size(item)
        if total >= 2 * PIECE * cores():
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _counts(text: str) -> np.ndarray:
    """Return the characters, bytes and beginnings of words before each place of a text, (N + 1, 3)."""
    letters = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    blank = _SPACE[np.minimum(letters, 0x3001)]
    counts = np.zeros((len(letters) + 1, 3), dtype=np.int64)
    counts[:, 0] = np.arange(len(letters) + 1)
    wide = 1 + (letters >= 0x80).astype(np.int64) + (letters >= 0x800) + (letters >= 0x10000)
    np.cumsum(wide, out=counts[1:, 1])
    np.cumsum(~blank & np.concatenate([[True], blank[:-1]]) if len(blank) else blank, out=counts[1:, 2])
    return counts
