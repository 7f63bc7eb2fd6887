"""Feature cache on disk: shards with checksums, written one by one, and a manifest of everything they depend on.

An entry has the features of one split of one set from one encoder. The name of its folder has a digest of its facts
(weights, model, transform, data, precision, layer, pooling, version of the code), so that a change of any of them makes
another entry. Shards are safetensors files of `features` (N, D), `label` (N) and `index` (N); `items.csv` names the
image of each row. A shard is valid only when its checksum is in the manifest, which is written after it: the shards of
a killed run are complete.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from tfcli.errors import RunError
from tfcli.files import alone, is_full, write_atomic

if TYPE_CHECKING:  # listing, naming and removing entries needs no torch
    from torch import Tensor

VERSION = 1
"""Version of extraction and storage, which is part of every key."""
SHARD_ROWS = 4096

Facts = dict[str, Any]
Shard = dict[str, "Tensor"]


@dataclass(frozen=True)
class Entry:
    """The features of one split.

    Attributes:
        folder: folder of the entry, which may not exist yet.
        facts: everything that the features depend on; plain JSON values.
        count: number of rows of the split.
    """

    folder: Path
    facts: Facts
    count: int

    @property
    def shards(self) -> list[range]:
        """The rows of each shard."""
        return [range(i, min(i + SHARD_ROWS, self.count)) for i in range(0, self.count, SHARD_ROWS)]

    @property
    def kept(self) -> int:
        """Number of shards on disk, by the manifest."""
        return len(self.manifest().get("shards", {}))

    def file(self, number: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"features-{number:05d}.safetensors"

    def manifest(self) -> dict[str, Any]:
        """Read the manifest of the shards on disk; empty for a new entry or an unreadable manifest."""
        values = _manifest(self.folder)
        return values if values.get("facts") == self.facts else {}


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def entry(root: Path, facts: Facts, count: int, *, same: Callable[[Facts, Facts], bool] = eq) -> Entry:
    """Return the entry of these facts below `root`, whether or not it exists yet.

    Args:
        same: function that tells whether the facts of an older entry equal these, for instance after a renaming.
    """
    facts = json.loads(json.dumps({"version": VERSION, **facts}))
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    name = "-".join("".join(c if c.isalnum() or c in "._" else "_" for c in str(facts[k])) for k in NAMES)
    found = Entry(root / f"{name[:80]}-{digest}", facts, count)
    if found.folder.exists():
        return found
    for folder in sorted(root.glob(f"{name[:80]}-*")):
        held = _manifest(folder).get("facts")
        if isinstance(held, dict) and same(held, facts):
            return Entry(folder, held, count)
    return found


NAMES = ("model", "data", "split")


def fetch(
    found: Entry,
    extract: Callable[[Sequence[int]], Iterator[Shard]],
    *,
    sources: Sequence[str],
    say: Callable[[str], None],
    advance: Callable[[int], None] = lambda rows: None,
    refresh: bool = False,
) -> tuple[Shard, int]:
    """Return all rows of an entry; shards that are missing or damaged are extracted and stored.

    Args:
        found: the entry.
        extract: function that yields batches of `features`, `label` and `index` for some rows, in their order.
        sources: name of each row's image, for items.csv.
        say: called with a line for the user.
        advance: called with the number of rows that are done.
        refresh: extract shards even if they are stored.

    Returns:
        the rows in order, and the number of extracted rows.
    """
    with _locked(found.folder, say) as writable:
        manifest = {} if refresh else found.manifest()
        kept: dict[str, Any] = manifest.get("shards", {})
        parts: list[Shard] = []
        extracted = 0
        for number, rows in enumerate(found.shards):
            part = _read(found, number, rows, kept.get(str(number)), say)
            if part is None:
                began = time.monotonic()
                part = _gathered(extract(rows), advance)
                extracted += len(rows)
                if writable:
                    took = manifest.get("seconds", 0.0) + time.monotonic() - began
                    manifest = {"facts": found.facts, "count": found.count, "seconds": took, "shards": kept}
                    manifest["width"] = part["features"].shape[1]
                    writable = _write(found, number, part, manifest, sources if not number else None, say)
            else:
                advance(len(part["label"]))
            parts.append(part)
    return _joined(parts), extracted


def _gathered(batches: Iterator[Shard], advance: Callable[[int], None]) -> Shard:
    parts = []
    for batch in batches:
        parts.append(batch)
        advance(len(batch["label"]))
    return _joined(parts)


def _joined(parts: Sequence[Shard]) -> Shard:
    import torch

    return {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def _read(
    found: Entry, number: int, rows: range, known: Mapping[str, Any] | None, say: Callable[[str], None]
) -> Shard | None:
    if known is None:
        return None
    file = found.file(number)
    try:
        content = file.read_bytes()
    except OSError:
        say(f"features: {file.name} of {found.folder.name} is missing; extracted again")
        return None
    if hashlib.sha256(content).hexdigest() == known["sha256"]:
        from safetensors.torch import load

        try:
            return load(content)
        except SafetensorError:  # complete, but in another format
            pass
    say(f"features: {file.name} of {found.folder.name} is damaged (its checksum differs); extracted again")
    return None


def _write(
    found: Entry,
    number: int,
    part: Shard,
    manifest: dict[str, Any],
    sources: Sequence[str] | None,
    say: Callable[[str], None],
) -> bool:
    """Store one shard; return False when the disk is full, after removing the incomplete shard."""
    from safetensors.torch import save

    content = save({name: tensor.contiguous() for name, tensor in part.items()})
    try:
        if sources is not None:
            write_atomic(found.folder / "items.csv", _items(sources))
        write_atomic(found.file(number), content)
        manifest["shards"][str(number)] = {
            "rows": len(part["label"]),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        write_atomic(found.folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    except OSError as error:
        if not is_full(error):
            raise RunError(f"cannot store features in `{found.folder}`: {error.strerror}.") from error
        manifest["shards"].pop(str(number), None)
        found.file(number).unlink(missing_ok=True)
        say(
            f"features: no space left at `{found.folder.parent}`. They are used but not stored from here on; "
            "`tfcli features rm` frees space, `features.cache=FOLDER` chooses another disk"
        )
        return False
    return True


def _items(sources: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "item"])
    writer.writerows(enumerate(sources))
    return text.getvalue()


@contextmanager
def _locked(folder: Path, say: Callable[[str], None]) -> Iterator[bool]:
    """Lock an entry while it is filled, so that other processes wait for it; yield False if it cannot be written."""
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(alone(folder / ".lock", wait=False))
        except BlockingIOError:
            say("features: another process is extracting the same features; waiting for it")
            handle = stack.enter_context(alone(folder / ".lock"))
        if handle is None:
            say(f"features: `{folder.parent}` cannot be written, so they are not stored")
        yield handle is not None


def entries(root: Path, say: Callable[[str], None] = lambda line: None) -> list[dict[str, Any]]:
    """Return the manifests below `root`, each with its `folder`, its `bytes` on disk and its number of `rows`.

    Manifests that cannot be read are reported by `say` and left out.
    """
    found = []
    for file in sorted(root.glob("*/manifest.json")):
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            shards = values["shards"].values()
            values |= {"bytes": sum(s["bytes"] for s in shards), "rows": sum(s["rows"] for s in shards)}
            values |= {"facts": dict(values["facts"]), "count": int(values["count"])}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            say(f"skipped: `{file}` is not a valid manifest. Its features are extracted again at the next use.")
            continue
        found.append({**values, "folder": file.parent, "age": time.time() - file.stat().st_mtime})
    return found


WORDS = {"settings.": "model.", "transform.": "data.", "layer": "features.layer", "pool": "features.pool"}
"""Beginning of the name of a fact -> of the setting that it comes from."""
SHOWN = 3
"""Differences up to this number are named; features that differ in more are no near ones."""


def why_missed(root: Path, wanted: Entry) -> str:
    """Name the settings that differ in the nearest entry of the same model, data and split.

    Returns:
        Empty where there is no such entry, or where it differs in more than `SHOWN` settings.
    """
    found = []
    for other in entries(root):
        facts = other["facts"]
        if all(facts.get(k) == wanted.facts[k] for k in NAMES) and facts != wanted.facts:
            found.append(_differences("", facts, wanted.facts))
    nearest = min(found, key=len, default=[])
    return "; ".join(nearest) if len(nearest) <= SHOWN else ""


def _differences(name: str, old: Any, new: Any) -> list[str]:
    """Describe each setting that differs, by the key that it has in a command; classes are left out."""
    if isinstance(old, dict) or isinstance(new, dict):
        old, new = (value if isinstance(value, dict) else {} for value in (old, new))
        inner = [k for k in {**old, **new} if old.get(k) != new.get(k) and k != "_target_"]
        return [line for k in inner for line in _differences(f"{name}.{k}" if name else k, old.get(k), new.get(k))]
    if name in ("weights", "fingerprint"):
        return [{"weights": "other weights", "fingerprint": "other files of the data set"}[name]]
    key = next((key + name.removeprefix(fact) for fact, key in WORDS.items() if name.startswith(fact)), name)
    return [f"{key} {old} -> {new}"]


def remove(folder: Path) -> None:
    """Delete one entry."""
    shutil.rmtree(folder, ignore_errors=True)
