"""Finding a set on disk, fetching it where that is allowed, and saying what is missing where it is not."""

from __future__ import annotations

import contextlib
import http.client
import lzma
import os
import shutil
import socket
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from tfcli.data.common.archives import bounded
from tfcli.data.common.paths import cache_root, offline
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.common.workers import Ranks
from tfcli.errors import DataError
from tfcli.files import alone, identity, is_alive

TIMEOUT_S = 20
NOWHERE = "tfcli has no way to download it"  # why a set is missing that no link and no library gives
_DOWNLOAD_ERRORS = (
    OSError,
    RuntimeError,
    EOFError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    http.client.HTTPException,
)


def locate(request: Request, expects: Sequence[str]) -> Path | None:
    """The folder that holds everything expected; None where there is none.

    It is the first of `root` and its folder of the set's name; or the one above, where these are the innermost folder
    that all of the set lies in (`oxford-iiit-pet/`).

    Args:
        request: name and root.
        expects: files and folders below the set's root; `a|b` is satisfied by either.
    """
    inner = shared_folders(expects)
    for folder in (request.root, request.root / request.folder):
        above = [folder.parents[k - 1] for k in range(1, len(inner) + 1) if folder.parts[-k:] == inner[:k]]
        for candidate in (folder, *above):
            if all(present(candidate, entry) for entry in expects):
                return candidate
    return None


def shared_folders(expects: Sequence[str]) -> tuple[str, ...]:
    """Return the folders, from the outermost on, that everything expected lies in."""
    every = [Path(choice).parts[:-1] for entry in expects for choice in entry.split("|")]
    return tuple(names[0] for names in takewhile(lambda names: len(set(names)) == 1, zip(*every, strict=False)))


def bare(request: Request, expects: Sequence[str]) -> tuple[Path, Path] | None:
    """Find a set whose archives were unpacked without the folders that all of it should lie in.

    Returns:
        Where it is, and the folders that are not there; None where it is not like that.
    """
    inner = shared_folders(expects)
    for folder in (request.root, request.root / request.folder):
        for k in range(1, len(inner) + 1):
            shorter = ["|".join(str(Path(*Path(c).parts[k:])) for c in entry.split("|")) for entry in expects]
            if all(present(folder, entry) for entry in shorter):
                return folder, Path(*inner[:k])
    return None


def present(folder: Path, entry: str) -> Path | None:
    """The first of `a|b|...` that is there."""
    return next((folder / choice for choice in entry.split("|") if (folder / choice).exists()), None)


def locate_or_fetch(request: Request, expects: Sequence[str], build: Callable[[Path], object] | None) -> Path:
    """Return the folder of the set; download it first when it is missing and may be fetched.

    Args:
        request: what the user wants.
        expects: as in `locate`.
        build: downloads the whole set below the folder it is given; None for sets that cannot be fetched.

    Raises:
        DataError: missing and not fetched: what is expected where, what was found, and how to get it.
    """
    found = locate(request, expects)
    if found:
        return found
    if build is None:
        raise missing(request, expects, NOWHERE)
    if offline():
        raise missing(request, expects, "TFCLI_OFFLINE forbids downloading")
    if not request.download:
        raise missing(request, expects, "data.download=false forbids downloading")
    if Ranks.from_environment().rank > 0:
        return _wait(request, expects)
    return _download(request, expects, build)


def missing(request: Request, expects: Sequence[str], why: str) -> DataError:
    """The error for a set that is not there."""
    tree = "\n".join(f"    {entry.replace('|', '   or   ')}" for entry in expects)
    page = request.facts.get("url")
    files = ", ".join(request.facts.get("archives") or []) or "it"
    by_hand = f"By hand: get {files} from {page}," if page else f"By hand: get {files},"
    return DataError(
        f"The data set {request.name} is not in {printable(request.root)} ({why}).\n"
        f"  Expected there, or in {printable(request.root / request.folder)}:\n{tree}\n"
        f"  Found: {found_in(request.root)}\n"
        f"  {by_hand} unpack what is packed into one folder, and name it with data.root=FOLDER (or TFCLI_DATA)."
    )


def found_in(folder: Path, most: int = 8) -> str:
    """Describe what a folder holds, for a message."""
    if not folder.exists():
        return f"no such folder ({printable(folder)})"
    if not folder.is_dir():
        return f"a file, not a folder ({printable(folder)})"
    try:
        names = sorted(printable(entry.name) + ("/" if entry.is_dir() else "") for entry in os.scandir(folder))
    except OSError as error:
        return f"a folder that cannot be read ({error.strerror})"
    if not names:
        return "an empty folder"
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "")


def _download(request: Request, expects: Sequence[str], build: Callable[[Path], object]) -> Path:
    """Into a temporary sibling folder, renamed when it is whole: a killed download is never half used.

    Of several processes here that want it (a sweep's jobs), one downloads and the others wait.
    """
    with alone(cache_root() / f"{request.name}.lock"):
        return locate(request, expects) or _download_alone(request, expects, build)


def _download_alone(request: Request, expects: Sequence[str], build: Callable[[Path], object]) -> Path:
    target, size = request.root / request.folder, request.facts.get("download_bytes") or 0
    page, licence = request.facts.get("url"), request.facts.get("licence") or "none stated"
    try:
        request.root.mkdir(parents=True, exist_ok=True)
        _clean(request)
        free = shutil.disk_usage(request.root).free
        if 2.2 * size > free:
            raise DataError(
                f"{request.name} needs about {2.2 * size / 1e9:.1f} GB to download and unpack, but "
                f"{printable(request.root)} has {free / 1e9:.1f} GB free. Choose another folder with data.root=FOLDER."
            )
        print(
            f"{request.name}: downloading {size / 1e6:,.0f} MB to {printable(target)} · licence: {licence} · {page}",
            file=sys.stderr,
        )
        partial = Path(tempfile.mkdtemp(prefix=f"{_prefix(request)}{identity()}-", dir=request.root))
    except OSError as error:
        raise missing(request, expects, f"and cannot be downloaded there: {error.strerror or error}") from None
    try:
        with _safe_network(request):
            build(partial)
        if locate(Request(name=request.name, root=partial), expects) is None:
            raise RuntimeError("the download is not complete")
        partial.chmod(0o755)
        if target.exists():  # holds something else, or half of the set: keep it, add what is missing
            for entry in partial.iterdir():
                if not (target / entry.name).exists():
                    os.rename(entry, target / entry.name)
        else:
            os.rename(partial, target)
    except _DOWNLOAD_ERRORS as error:
        reason = getattr(error, "reason", None) or error
        raise missing(request, expects, f"downloading failed: {type(error).__name__}: {reason}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    found = locate(request, expects)
    if found is None:
        raise missing(request, expects, f"{printable(target)} was there before and is in the way")
    return found


def _prefix(request: Request) -> str:
    return f".{request.name}.partial-{socket.gethostname()}-"


def _alive(partial: Path, prefix: str) -> bool:
    return is_alive(partial.name.removeprefix(prefix).split("-")[0])


def _clean(request: Request) -> None:
    """Remove what killed downloads on this machine left."""
    prefix = _prefix(request)
    for partial in request.root.glob(f"{prefix}*"):
        if not _alive(partial, prefix):
            shutil.rmtree(partial, ignore_errors=True)


def _wait(request: Request, expects: Sequence[str], *, grace_s: float = 60.0) -> Path:
    """Another rank downloads; this one waits while it is at work, and at first for a minute."""
    prefix, started = _prefix(request), time.monotonic()
    while True:
        found = locate(request, expects)
        if found:
            return found
        working = any(_alive(partial, prefix) for partial in request.root.glob(f"{prefix}*"))
        if not working and time.monotonic() - started > grace_s:
            raise missing(request, expects, "the first rank did not download it; fetch it first: tfcli data get")
        time.sleep(0.5)


@contextlib.contextmanager
def _safe_network(request: Request) -> Iterator[None]:
    """A time limit on every connection, and bounds for every archive."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        with bounded(request.facts.get("max_expansion")):
            yield
    finally:
        socket.setdefaulttimeout(before)
