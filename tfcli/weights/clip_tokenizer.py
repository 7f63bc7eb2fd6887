"""The list of byte pairs of CLIP's tokenizer, which OpenAI's archives come without."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from tfcli.errors import WeightsError
from tfcli.files import cache_root, data_root
from tfcli.weights.fetch import Unreachable, download, offline

MERGES = "bpe_simple_vocab_16e6.txt.gz"
MERGES_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
MERGES_URL = f"https://github.com/openai/CLIP/raw/main/clip/{MERGES}"


def merges_file(beside: Path | None = None) -> Path:
    """Return the file of OpenAI's byte pairs, found on this machine or fetched (1.3 MiB, MIT).

    Args:
        beside: a folder to look in first, such as the checkpoint's.

    Raises:
        WeightsError: it is not here and cannot be fetched, or what is here is another file.
    """
    target = cache_root() / "tokenizers" / MERGES
    shared = data_root() / "tokenizers"
    places = [shared / MERGES, shared / "clip" / MERGES, target, Path("~/.cache/clip").expanduser() / MERGES]
    spec = find_spec("open_clip")  # its wheel carries the file
    places += [Path(folder) / MERGES for folder in (spec.submodule_search_locations or [])] if spec else []
    if beside is not None:
        places.insert(0, beside / MERGES)
    for place in places:
        if place.is_file():
            if hashlib.sha256(place.read_bytes()).hexdigest() != MERGES_SHA256:
                raise WeightsError(f"`{place}` differs from OpenAI's file of that name (by its SHA-256): remove it.")
            return place
    try:
        if offline():
            raise Unreachable("TFCLI_OFFLINE=1 forbids the network")
        return download(MERGES_URL, target, sha256=MERGES_SHA256, about="licence MIT, OpenAI's byte pairs for CLIP")
    except Unreachable as error:
        raise WeightsError(
            f"CLIP's tokenizer needs {MERGES}, which is not on this machine and could not be fetched ({error}). Looked "
            f"for {', '.join(f'`{place}`' for place in places)}. By hand: fetch {MERGES_URL} (1.3 MiB, MIT) on another "
            "machine and copy it to one of these, or say `model.tokenizer.path=FILE`."
        ) from error
