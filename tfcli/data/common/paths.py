"""Folders of data and caches, and whether the network may be used."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return $TFCLI_CACHE, or `tfcli` in the user's cache folder where it is not set."""
    given = os.environ.get("TFCLI_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tfcli"


def data_root(given: str | os.PathLike | None = None) -> Path:
    """Return `data.root` as an absolute path; by default $TFCLI_DATA, or else `data` in the cache folder."""
    chosen = given or os.environ.get("TFCLI_DATA")
    return Path(chosen).expanduser().absolute() if chosen else cache_root() / "data"


def offline() -> bool:
    """Return whether TFCLI_OFFLINE forbids the network."""
    return os.environ.get("TFCLI_OFFLINE", "") not in ("", "0")
