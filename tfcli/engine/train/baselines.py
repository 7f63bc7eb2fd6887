"""Figures of simple models beside a result, computed once for the same data and kept in the user's cache folder."""

from __future__ import annotations

import inspect
import json
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tfcli.engine.config.build import plain
from tfcli.engine.train.prepare import Parts
from tfcli.files import alone, cache_root, write_atomic

OF_TRAINING = {
    *("batch_size", "eval_batch_size", "bucket", "batch_tokens", "epochs", "workers", "cache", "seed", "augment"),
    *("root", "download", "verify", "watch_test", "baseline"),
}
"""Settings of a data set that change neither its rows nor how evaluation reads them."""
CODE = ("tasks", "metrics", "data", "text")
"""Parts of this package of which a simple model and its figures are made."""
LIBRARIES = ("numpy", "scikit-learn", "torch")


def baselines(parts: Parts) -> dict[str, float]:
    """Return the test figures of the task's simple models, from the cache where they are there.

    They are computed again if the data, the tokenizer, a setting of data or task, the code or a library is another
    one, or if the file is damaged. Of several processes one computes them, and the others wait. A cache folder that
    cannot be written is no error: the figures are then computed in every run.
    """
    tokenizer = parts.data.tokenizer
    if tokenizer is not None and not hasattr(tokenizer, "digest"):  # one of the user's own
        return parts.task.baselines(parts.data)
    key = _key(parts)
    path = cache_root() / "baselines" / f"{sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]}.json"
    found = _read(path)
    if found is None:
        with alone(path.with_suffix(".lock")):
            found = _read(path)
            if found is None:
                found = {name: float(value) for name, value in parts.task.baselines(parts.data).items()}
                with suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_atomic(path, json.dumps({"of": key, "figures": found, "digest": _digest(found)}, indent=1))
    return found


def _key(parts: Parts) -> dict[str, Any]:
    """Return everything that the figures depend on, as JSON."""
    data, task = parts.data, type(parts.task)
    settings = {name: value for name, value in plain(parts.config.data).items() if name not in OF_TRAINING}
    own = {name: value for name, value in plain(parts.config.task).items() if name not in ("optim", "schedule")}
    key = {
        "data": [data.fingerprint, data.fingerprints, data.bad_files, settings],
        "tokenizer": getattr(data.tokenizer, "digest", None),
        "task": [f"{task.__module__}.{task.__qualname__}", own],
        "code": _code(task),
        "libraries": [version(name) for name in LIBRARIES],
    }
    return json.loads(json.dumps(key, default=str))


def _code(task: type) -> str:
    """Return a digest of the sources of the simple models: ours, and those that lie beside a task of the user's own."""
    package = Path(__file__).parents[2]
    files = {file for part in CODE for file in (package / part).rglob("*.py")}
    for part in (task, task.baselines):  # type: ignore[attr-defined]  # every task has it
        files |= set(Path(inspect.getfile(part)).parent.glob("*.py"))
    digest = sha256()
    for file in sorted(files):
        with suppress(OSError):  # a link to nothing, such as an editor's lock
            digest.update(f"{file.name}\0".encode("utf-8", "surrogateescape") + file.read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, float] | None:
    """Return the figures in a file; None where it does not exist or is damaged."""
    try:
        kept = json.loads(path.read_bytes())
        return kept["figures"] if kept["digest"] == _digest(kept["figures"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(figures: dict[str, float]) -> str:
    return sha256(json.dumps(figures).encode()).hexdigest()[:16]
