"""A closer look at a set on disk: equal images in training and test, and files that cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tfcli.data.decode import printable
from tfcli.data.items import Items, Loaded

_CHUNK = 4096


@dataclass
class Findings:
    """What a check found.

    Attributes:
        counts: samples of each split.
        duplicates: (train, test) samples with equal contents: file names, or numbers in arrays.
        unreadable: files that cannot be opened.
    """

    counts: dict[str, int]
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def inspect(loaded: Loaded) -> Findings:
    """Hash every image of train and test (the file's bytes, or the pixels of arrays) and compare."""
    findings = Findings({split: len(items) for split, items in loaded.found.items()})
    seen: dict[bytes, str] = {}
    for split in ("train", "test"):
        if split not in loaded.found:
            continue
        for name, digest in _digests(loaded.found[split]):
            if digest is None:
                findings.unreadable.append(name)
            elif split == "train":
                seen.setdefault(digest, name)
            elif digest in seen:
                findings.duplicates.append((seen[digest], name))
    return findings


def _digests(items: Items) -> Iterator[tuple[str, bytes | None]]:
    if items.files is not None:
        for path in items.files:
            try:
                yield printable(path), hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
            except OSError:
                yield printable(path), None
        return
    assert items.pixels is not None
    for start in range(0, len(items), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(items)))
        for row, image in zip(rows, items.pixels.take(rows), strict=True):
            yield str(row), hashlib.blake2b(image.tobytes(), digest_size=16).digest()
