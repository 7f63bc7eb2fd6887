"""Where a checkpoint lies: its file here, fetched from an address if need be, and what its owner states elsewhere."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from tfcli.errors import WeightsError
from tfcli.weights.fetch import Unreachable, download, offline
from tfcli.weights.preprocessing import Preprocessing


@dataclass(frozen=True)
class Place:
    """Location of a checkpoint, and what its owner states elsewhere: preprocessing and class names."""

    path: Path
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] = ()


def folder() -> Path:
    """Return the folder of the files that torch downloads: `$TORCH_HOME/hub/checkpoints`."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_HOME") or Path(cache) / "torch").expanduser() / "hub" / "checkpoints"


def kept(url: str) -> list[Path]:
    """Return the places where a file of that address may lie: ours first, then its owner's library's."""
    name = Path(urlparse(url).path).name
    places = [folder() / name]
    if "/clip/models/" in url:  # OpenAI's own package
        places.append(Path("~/.cache/clip").expanduser() / name)
    return places


def file_of(url: str, *, name: str, about: str, sha256: str = "") -> Path:
    """Return the file of an address, fetched if it is not here yet.

    Args:
        url: its address.
        name: what was asked for.
        about: what is said of it before it is fetched, its licence for instance.
        sha256: of the file, where its name does not hold it.

    Raises:
        WeightsError: it is not here and cannot be fetched.
    """
    target, *others = kept(url)
    for place in (target, *others):
        if place.is_file():
            return place
    host = (urlparse(url).hostname or "").removeprefix("download.")
    looked = " and ".join(f"`{place}`" for place in (target, *others))
    try:
        if offline():
            raise Unreachable("TFCLI_OFFLINE=1 forbids the network")
        return download(url, target, about=about, sha256=sha256)
    except Unreachable as error:
        raise WeightsError(
            f"`{name}` is not on this machine and could not be fetched ({error}). It is the file {target.name} of "
            f"{host}; looked for {looked}. By hand: fetch {url} on another machine, copy it here, and say "
            "`model.weights=PATH`."
        ) from error
