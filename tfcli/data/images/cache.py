"""Cache of decoded photographs: files in, uint8 images of reduced size out.

Mode `memory` fills one flat buffer before training, with a pool of threads. `disk` writes a file of the same layout to
the user's cache folder, which is memory-mapped and shared by ranks and later runs. `none` decodes a file on every
access. `auto` means memory for one process where the images fit in a quarter of the free memory, disk for several
ranks, and none otherwise. All modes give the same pixels.

`memory` and `disk` find every unreadable file before the first epoch; `none` finds it on first access.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tfcli.data.common.printable import printable
from tfcli.data.common.workers import Ranks, cores, free_memory
from tfcli.data.images.decode import BadImage, decode
from tfcli.data.images.resize import Resize
from tfcli.errors import DataError, PolicyStop
from tfcli.files import cache_root

VERSION = 3  # version of the decoding rule and the file layout, part of the cache key
_CHUNK = 2048
_SHOWN = 10  # most files that an error lists
_NAMED = 5  # most files that a note lists

Bad = list[tuple[str, str]]
Read = partial[np.ndarray]  # `decode` with its `resize` bound


@dataclass(frozen=True)
class Policy:
    """Policy for unreadable image files: `raise` an error, or `skip` them up to a fraction of all files."""

    on_error: str = "raise"
    max_bad_fraction: float = 0.01

    def check(self, bad: Bad, *, total: int) -> None:
        """Raise DataError for any unreadable file (raise), or PolicyStop above the allowed fraction (skip)."""
        if not bad:
            return
        listing = listing_of(bad, _SHOWN)
        if self.on_error == "raise":
            raise DataError(
                f"{len(bad):,} of {total:,} image files cannot be used:\n{listing}\n"
                "Repair or remove them, or train without them: data.on_error=skip"
            )
        if len(bad) > self.max_bad_fraction * total:
            raise PolicyStop(
                f"{len(bad):,} of {total:,} image files cannot be used, more than data.max_bad_fraction="
                f"{self.max_bad_fraction:g} allows:\n{listing}"
            )


def listing_of(bad: Bad, most: int) -> str:
    """Return the first unreadable files with their reasons, one per line, and the number of further files."""
    lines = [f"  {printable(path)}: {reason}" for path, reason in bad[:most]]
    return "\n".join([*lines, *([f"  and {len(bad) - most:,} more"] if len(bad) > most else [])])


class Store:
    """Decoded images of different sizes, indexed by row.

    Args:
        mode: memory, disk or none.
        good: (N,) whether a row has a readable image; always true in mode none.
        offsets, sizes: (N,) first byte and (N, 2) height and width of each image in the buffer.
        buffer: the bytes, in mode memory.
        path: the file of the bytes, in mode disk.
        files: the image files.
        resize: change of size after decoding, in mode none.
    """

    def __init__(
        self,
        mode: str,
        *,
        good: np.ndarray,
        offsets: np.ndarray | None = None,
        sizes: np.ndarray | None = None,
        buffer: np.ndarray | None = None,
        path: Path | None = None,
        files: Sequence[Path] = (),
        resize: Resize | None = None,
    ):
        nothing = np.zeros((0, 2), dtype=np.int64)
        self.mode, self.good = mode, good
        self.offsets = nothing[:, 0] if offsets is None else offsets
        self.sizes = nothing if sizes is None else sizes
        self.tensor = None if buffer is None else torch.from_numpy(buffer)  # shared, not copied, between processes
        self.path, self.files, self.resize = path, files, resize
        self._map: np.ndarray | None = None

    @classmethod
    def of_files(cls, files: Sequence[Path], *, resize: Resize | None) -> Store:
        """Return a store that decodes a file on every access."""
        return cls("none", good=np.ones(len(files), dtype=bool), files=files, resize=resize)

    def __len__(self) -> int:
        return len(self.good)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_map": None}

    def one(self, row: int) -> np.ndarray:
        """Return the image of a row, (Y, X, 3) uint8.

        Raises:
            BadImage: the file cannot be read, in mode none.
        """
        if self.mode == "none":
            return decode(self.files[row], resize=self.resize)
        start, (y, x) = self.offsets[row], self.sizes[row]
        return self._bytes()[start : start + 3 * y * x].reshape(y, x, 3)

    def _bytes(self) -> np.ndarray:
        if self.tensor is not None:
            return self.tensor.numpy()
        if self._map is None:
            assert self.path is not None
            self._map = np.memmap(self.path, dtype=np.uint8, mode="r")
        return self._map


def store_files(
    files: dict[str, list[Path]],
    *,
    name: str,
    resize: Resize,
    mode: str,
    policy: Policy,
    ranks: Ranks,
) -> tuple[dict[str, Store], Bad, list[str]]:
    """Return a store for each split, the unreadable files, and notes for the user.

    Raises:
        DataError: there are unreadable files and the policy is `raise`, or the disk cache cannot be written.
        PolicyStop: there are more unreadable files than the policy allows.
    """
    every = [path for paths in files.values() for path in paths]
    notes: list[str] = []
    needed = estimate_bytes(every, resize=resize) if mode == "auto" else 0
    if mode == "auto":
        mode = choose_mode(needed, ranks=ranks)
        if mode == "none":
            smaller = " (data.decode_size=N keeps N px of the shorter side)" if resize.rule == "squash" else ""
            notes.append(
                f"cache: none, {needed / 1e9:.1f} GB of decoded images do not fit, so each is decoded anew{smaller}"
            )
    if mode == "none":
        stores = {s: Store.of_files(paths, resize=resize) for s, paths in files.items()}
        return stores, [], notes
    stores, bad = {}, []
    with _progress(f"decoding {name}", len(every)) as advance:
        for split, paths in files.items():
            build = _on_disk if mode == "disk" else _in_memory
            read = partial(decode, resize=resize)
            stores[split], unusable = build(paths, name=f"{name}-{split}", read=read, advance=advance)
            bad.extend(unusable)
    policy.check(bad, total=len(every))
    size = sum(3 * int((store.sizes[:, 0] * store.sizes[:, 1]).sum()) for store in stores.values())
    where = "in memory" if mode == "memory" else f"on disk ({cache_root() / 'images'})"
    notes.append(f"cache: {size / 1e9:.2f} GB of decoded images {where}")
    if bad:
        message = f"{len(bad):,} of {len(every):,} image files cannot be used and are skipped (data.on_error=skip)"
        notes.append(f"{message}:\n{listing_of(bad, _NAMED)}")
    return stores, bad, notes


def estimate_bytes(files: Sequence[Path], *, resize: Resize, samples: int = 16) -> int:
    """Estimate the decoded size of all files in bytes from a sample of them."""
    sizes = []
    for path in files[:: max(1, len(files) // samples)][:samples]:
        with contextlib.suppress(BadImage):  # unreadable files are reported later, when all files are read
            sizes.append(decode(path, resize=resize).size)
    return int(np.mean(sizes) * len(files)) if sizes else 0


def choose_mode(needed: int, *, ranks: Ranks) -> str:
    """Return the mode that `auto` means for `needed` bytes."""
    if ranks.world == 1:
        return "memory" if needed <= free_memory() / 4 else "none"
    folder = cache_root()
    while not folder.exists():
        folder = folder.parent
    writable = os.access(folder, os.W_OK)
    return "disk" if writable and 1.2 * needed < shutil.disk_usage(folder).free else "none"


def _decoded(paths: Sequence[Path], *, read: Read) -> Iterator[np.ndarray | BadImage]:
    """Yield images in order, decoded by threads (Pillow releases the interpreter lock while it decodes)."""

    def attempt(path: Path) -> np.ndarray | BadImage:
        try:
            return read(path)
        except BadImage as error:
            return error

    with ThreadPoolExecutor(max(1, cores())) as pool:
        for start in range(0, len(paths), _CHUNK):  # in chunks, so that few decoded images wait in memory
            yield from pool.map(attempt, paths[start : start + _CHUNK])


def _fill(
    paths: Sequence[Path], *, read: Read, write: Callable[[np.ndarray], object], advance: Callable[[], object]
) -> tuple[np.ndarray, Bad]:
    sizes, bad = np.zeros((len(paths), 2), dtype=np.int64), []
    for row, image in enumerate(_decoded(paths, read=read)):
        if isinstance(image, BadImage):
            bad.append((str(image.path), image.reason))
        else:
            sizes[row] = image.shape[:2]
            write(image.reshape(-1))
        advance()
    return sizes, bad


def _offsets(sizes: np.ndarray) -> np.ndarray:
    ends = np.cumsum(3 * sizes[:, 0] * sizes[:, 1])
    return np.concatenate([[0], ends[:-1]]).astype(np.int64)


def _in_memory(paths: Sequence[Path], *, name: str, read: Read, advance: Callable[[], object]) -> tuple[Store, Bad]:
    buffer, used = np.empty(int(1.05 * estimate_bytes(paths, **read.keywords)) + 1024, dtype=np.uint8), 0

    def write(image: np.ndarray) -> None:
        nonlocal buffer, used
        if used + len(image) > len(buffer):
            buffer = np.concatenate([buffer[:used], np.empty(len(image) + len(buffer) // 4, dtype=np.uint8)])
        buffer[used : used + len(image)] = image
        used += len(image)

    sizes, bad = _fill(paths, read=read, write=write, advance=advance)
    store = Store("memory", good=sizes[:, 0] > 0, offsets=_offsets(sizes), sizes=sizes, buffer=buffer[:used])
    return store, bad


def _on_disk(paths: Sequence[Path], *, name: str, read: Read, advance: Callable[[], object]) -> tuple[Store, Bad]:
    """Write or open the cache on disk; the index is renamed into place last, so that it exists only when complete."""
    folder = cache_root() / "images"
    stem = f"{name}-{read.keywords['resize'].side}-{_key(paths, **read.keywords)}"
    data, index = folder / f"{stem}.u8", folder / f"{stem}.npz"
    _wait_for_another(folder, stem)
    try:
        if index.exists() and _read_index(index, data) is None:
            print(f"`{index}` is torn; the images are decoded again", file=sys.stderr)
            index.unlink()
            data.unlink(missing_ok=True)
        if not (index.exists() and data.exists()):
            folder.mkdir(parents=True, exist_ok=True)
            _clean(folder)
            scratch = folder / f"{stem}.{os.getpid()}.tmp"
            try:
                with open(scratch, "wb", buffering=1 << 20) as file:
                    sizes, bad = _fill(paths, read=read, write=lambda image: file.write(image.data), advance=advance)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(scratch, data)
                with open(scratch, "wb") as file:
                    np.savez(file, sizes=sizes, bad=np.array(bad or np.zeros((0, 2)), dtype=str))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(scratch, index)
            finally:
                scratch.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"The image cache cannot be written: {error}. Choose another folder with TFCLI_CACHE, or data.cache=none"
        ) from None
    found = _read_index(index, data)
    if found is None:
        raise DataError(f"`{index}` was changed while it was read; run the command again, or set data.cache=none.")
    sizes, bad = found
    return Store("disk", good=sizes[:, 0] > 0, offsets=_offsets(sizes), sizes=sizes, path=data), bad


def _read_index(index: Path, data: Path) -> tuple[np.ndarray, Bad] | None:
    """Return the sizes of the images and the unreadable files; None where the index or the bytes are incomplete."""
    try:
        with open(index, "rb") as file, np.load(file, allow_pickle=False) as saved:
            sizes, bad = saved["sizes"], [(str(path), str(reason)) for path, reason in saved["bad"]]
        whole = data.stat().st_size == int((3 * sizes[:, 0].astype(np.int64) * sizes[:, 1]).sum())
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
        return None
    return (sizes, bad) if whole else None


def _key(paths: Sequence[Path], *, resize: Resize) -> str:
    """Return a digest of the files' paths, sizes and times, the change of size, and the version of the cache."""
    digest = hashlib.sha256(repr((VERSION, resize)).encode())
    for path in paths:
        try:
            stat = path.stat()
            facts = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:
            facts = "missing"
        digest.update(os.fsencode(path) + b"\0" + facts.encode() + b"\0")
    return digest.hexdigest()[:20]


def _wait_for_another(folder: Path, stem: str) -> None:
    """Wait while another running process writes the same cache."""
    while any(_at_work(path) for path in folder.glob(f"{stem}.*.tmp")):
        time.sleep(0.2)


def _at_work(scratch: Path) -> bool:
    """Return whether the process in the file's name runs on this machine and has written in the last minute."""
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(scratch.suffixes[-2].lstrip(".")), 0)
        return time.time() - scratch.stat().st_mtime < 60
    return False


def _clean(folder: Path) -> None:
    """Remove temporary files of killed processes that are older than a day."""
    for path in folder.glob("*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > 86_400:
                path.unlink()


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], object]]:
    """Show a progress bar on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
