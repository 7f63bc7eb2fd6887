"""The request that the data module makes of a source: one for every kind of set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """Request of the data module to a source.

    Args:
        name: the set's name.
        root: where to look; never None.
        download, verify: what the user allows and wants.
        skip: leave it to the data module to count and skip files that are missing.
        split_seed, test_fraction: for sets without a test split of their own.
        columns: names of those that will be served; empty: whatever is ordinary for the set.
        facts: licence, url, download_bytes, ... for messages.
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
        """The set's folder below a folder of roots: its name, unless it shares one with others (`folder: glue`)."""
        return self.facts.get("folder") or self.name
