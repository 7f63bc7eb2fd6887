"""Finding a data set on disk, downloading it where that is allowed, and clear errors where it is missing."""

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
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.common.workers import Ranks
from tfcli.errors import DataError
from tfcli.files import alone, cache_root, identity, is_alive, offline

TIMEOUT_S = 20
NOWHERE = "tfcli has no way to download it"  # reason in the error for a data set without a download
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
    """Return the folder that has all expected entries; None where there is none.

    The candidates are `root` and the folder of the data set's name below it, and their parents where the candidate is
    itself a folder that all entries share (`oxford-iiit-pet/`).

    Args:
        request: has the name and the root.
        expects: files and folders below the data set's root; `a|b` means either of them.
    """
    inner = shared_folders(expects)
    for folder in (request.root, request.root / request.folder):
        above = [folder.parents[k - 1] for k in range(1, len(inner) + 1) if folder.parts[-k:] == inner[:k]]
        for candidate in (folder, *above):
            if all(present(candidate, entry) for entry in expects):
                return candidate
    return None


def shared_folders(expects: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the folders, from the outermost inwards, that all expected entries share."""
    every = [Path(choice).parts[:-1] for entry in expects for choice in entry.split("|")]
    return tuple(names[0] for names in takewhile(lambda names: len(set(names)) == 1, zip(*every, strict=False)))


def locate_without_folders(request: Request, expects: Sequence[str]) -> tuple[Path, Path] | None:
    """Find a data set that was unpacked without the folders that all its entries share.

    Returns:
        Its folder, and the missing folders; None where there is no such data set.
    """
    inner = shared_folders(expects)
    for folder in (request.root, request.root / request.folder):
        for k in range(1, len(inner) + 1):
            shorter = ["|".join(str(Path(*Path(c).parts[k:])) for c in entry.split("|")) for entry in expects]
            if all(present(folder, entry) for entry in shorter):
                return folder, Path(*inner[:k])
    return None


def present(folder: Path, entry: str) -> Path | None:
    """Return the first path of `a|b|...` that exists; None where none does."""
    return next((folder / choice for choice in entry.split("|") if (folder / choice).exists()), None)


def locate_or_fetch(request: Request, expects: Sequence[str], build: Callable[[Path], object] | None) -> Path:
    """Return the folder of the data set; download it first where it is missing and a download is allowed.

    Args:
        request: the request of the data module.
        expects: as in `locate`.
        build: downloads the data set into the folder that it is given; None for data sets without a download.

    Raises:
        DataError: the data set is missing; the message says what is expected, what was found, and how to get it.
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
    """Return the error for a missing data set."""
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
    """Describe the contents of a folder for a message."""
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
    """Download a data set while other processes on this machine (jobs of a sweep) wait for it.

    The files arrive in a temporary folder beside the target, which is renamed when complete, so that an interrupted
    download is never used.
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
    """Remove the temporary folders of killed downloads on this machine."""
    prefix = _prefix(request)
    for partial in request.root.glob(f"{prefix}*"):
        if not _alive(partial, prefix):
            shutil.rmtree(partial, ignore_errors=True)


def _wait(request: Request, expects: Sequence[str], *, grace_s: float = 60.0) -> Path:
    """Wait while the first rank downloads; give up after a minute without a download in progress."""
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
    """Set a timeout for connections and limits for archives inside a `with` block."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        with bounded(request.facts.get("max_expansion")):
            yield
    finally:
        socket.setdefaulttimeout(before)
