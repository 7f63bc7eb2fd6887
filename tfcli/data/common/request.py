"""The request that the data module sends to a source; it is the same type for all data sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """Request of the data module to a source.

    Args:
        name: name of the data set.
        root: folder to search.
        download, verify: whether downloads are allowed, and whether checksums are verified.
        skip: whether missing files are left to the data module, which counts and skips them.
        split_seed, test_fraction: settings of the test split of a data set that has none.
        columns: names of the columns that the task needs; empty means the usual columns of the data set.
        facts: licence, url, download_bytes and other facts of the config; see `tfcli.data.common.facts`.
    """

    name: str
    root: Path
    download: bool = False
    verify: bool = True
    skip: bool = False
    split_seed: int = 0
    test_fraction: float = 0.2
    columns: tuple[str, ...] = ()
    facts: dict = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name of the data set's folder below the root: its own name, unless sets share a folder (`folder: glue`)."""
        return self.facts.get("folder") or self.name
