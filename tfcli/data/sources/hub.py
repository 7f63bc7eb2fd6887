"""Tables from the Hugging Face hub, loaded by the library `datasets` with its own cache."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, TypeVar

from tfcli.data.columns.filetext import FileText, stated
from tfcli.data.common.fetch import NOWHERE, TIMEOUT_S, locate, missing
from tfcli.data.common.request import Request
from tfcli.data.sources.documents import LARGE, document, written_once
from tfcli.data.sources.tables import Table
from tfcli.errors import install
from tfcli.files import offline

Made = TypeVar("Made")
USUAL = {"train": "train", "validation": "val", "test": "test"}
"""Our names of the hub's splits."""


def local_or_hub(
    request: Request, expects: Sequence[str], hub: Mapping[str, Any] | None
) -> tuple[Path | None, dict[str, Table]]:
    """Return the folder of the local files, or else the tables of the splits from the hub.

    Args:
        request: the request of the data module.
        expects: local files, as in `tfcli.data.common.fetch.locate`.
        hub: as in `hub_tables`.

    Raises:
        DataError: the data set is neither on disk nor available from the hub.
    """
    found = locate(request, expects)
    return found, {} if found is not None else hub_tables(request, expects, hub)


def hub_tables(request: Request, expects: Sequence[str], hub: Mapping[str, Any] | None) -> dict[str, Table]:
    """Return the tables of the splits from the hub, or from the cache of `datasets` where the network is not used.

    Args:
        request: the request of the data module.
        expects: local files that would be read instead, for the message.
        hub: `path`, and optionally `name` of the configuration, `revision`, and `splits`, a mapping from the hub's
            names to ours.

    Raises:
        DataError: the data set is not available; the message says what is expected where, and why it was not loaded.
    """
    return _loaded(request, expects, hub, _table)


def hub_texts(
    request: Request, expects: Sequence[str], hub: Mapping[str, Any] | None, column: str
) -> dict[str, str | FileText]:
    """Return the lines of a column of each split as one text; see `hub_tables`.

    A large column goes from the files of `datasets` into a file of the cache folder, a few thousand rows at a time.
    """
    return _loaded(request, expects, hub, lambda rows, _: _text(rows, column))


def _text(rows: Any, column: str) -> str | FileText:
    def lines() -> Iterator[str]:
        return (line.rstrip("\n") for part in rows.select_columns(column).iter(10_000) for line in part[column])

    files = [Path(file["filename"]) for file in rows.cache_files]
    if not files or sum(file.stat().st_size for file in files) < LARGE:
        return "\n".join(lines())
    key = sha256(json.dumps([column, len(rows), *map(stated, files)]).encode()).hexdigest()[:32]

    def write(file: IO[bytes]) -> None:
        for number, line in enumerate(lines()):
            file.write(("\n" * (number > 0) + line).encode())

    return document(written_once(key, write))


def _loaded(
    request: Request, expects: Sequence[str], hub: Mapping[str, Any] | None, make: Callable[[Any, str], Made]
) -> dict[str, Made]:
    """Return what `make` returns for the rows of each split and their place on the hub."""
    if hub is None:
        raise missing(request, expects, NOWHERE)
    why = "TFCLI_OFFLINE forbids downloading" if offline() else ""
    why = why or ("" if request.download else "data.download=false forbids downloading")
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise missing(request, expects, why or f"to download it: {install('text')}") from None
    why = why or _unreachable(hub["path"])
    if not why:
        size, licence = (request.facts.get("download_bytes") or 0) / 1e6, request.facts.get("licence") or "none stated"
        print(f"{request.name}: {size:,.0f} MB from the hub ({hub['path']}) · licence: {licence}", file=sys.stderr)
    try:
        with _network(allowed=not why):
            parts = load_dataset(hub["path"], hub.get("name"), revision=hub.get("revision"))
        where = " ".join(filter(None, (hub["path"], hub.get("name"))))
        names = hub.get("splits") or {name: ours for name, ours in USUAL.items() if name in parts}
        return {ours: make(parts[theirs], f"{where} ({theirs})") for theirs, ours in names.items()}
    except (DatasetsError, OSError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise missing(request, expects, why or f"the hub's {hub['path']} cannot be loaded: {reason}") from None


def _unreachable(path: str) -> str:
    """Return why the hub cannot be reached, after one attempt; an empty string where it can."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    try:
        HfApi().dataset_info(path, timeout=TIMEOUT_S)
    except (HTTPError, OSError, ValueError) as error:
        return f"the hub's {path} cannot be reached: {str(error).splitlines()[0][:200]}"
    return ""


@contextmanager
def _network(*, allowed: bool) -> Iterator[None]:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not allowed
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _table(rows: Any, where: str) -> Table:
    return Table(where, {name: list(rows[name][:]) for name in rows.column_names}, range(len(rows)), "row")
