"""Torch files are pickles, and a pickle is a program. It is opened so that it cannot run, and nothing turns that off.

`weights_only=True` allows tensors and plain containers. What else a file asks for is read off its opcodes. Of a
TorchScript archive the tensors are taken and the program is left alone (`script.py`).
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from tfcli.errors import WeightsError
from tfcli.weights.script import is_script, load_script


def load_pickle(file: Path, *, mapped: bool = True) -> Any:
    """Read the tensors and plain containers of a torch file, mapped into memory where its format and `mapped` allow.

    Raises:
        WeightsError: it asks for anything else, or is damaged; nothing in it was run.
    """
    with file.open("rb") as stream:
        start = stream.read(64)
    if not start:
        raise WeightsError(f"`{file}` is empty.")
    if start.lstrip()[:1] == b"<":
        raise WeightsError(f"`{file}` is a web page, not a checkpoint: the download was answered with an error page.")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"`{file}` is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository.")
    zipped = zipfile.is_zipfile(file)
    if zipped:
        try:
            _refuse_bomb(file)
            if is_script(file):
                return load_script(file)
        except zipfile.BadZipFile as error:
            raise WeightsError(f"`{file}` is damaged or not a checkpoint: {error}") from error
    try:
        with warnings.catch_warnings():  # torch warns of pickle protocols that it then reads or refuses
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped and mapped)
    except pickle.UnpicklingError as error:
        code = _code_in(file, str(error))
        if code:
            raise WeightsError(
                f"`{file}` is refused: it asks to import `{code}`, and a checkpoint must hold tensors, not code. "
                "Nothing in it was run. Ask its author for the state dict alone, as safetensors."
            ) from error
        # Not in torch's words: they advise to switch this check off.
        raise WeightsError(
            f"`{file}` is refused: it is damaged, or holds more than tensors and plain values. Nothing in it was run."
        ) from error
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        AssertionError,
        OSError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"`{file}` is damaged or not a checkpoint: {reason[:200]}") from error


def _refuse_bomb(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > file.stat().st_size + 2**20:  # torch stores without compression
        raise WeightsError(f"`{file}` is refused: it unpacks to {unpacked:,} bytes from {file.stat().st_size:,}.")


def _code_in(file: Path, message: str) -> str | None:
    """Return the first name that the pickle in `file` would import and that torch refuses; read, not run."""
    named = re.search(r"(?:Unsupported global: GLOBAL|unsupported GLOBAL) (\S+)", message)
    if named:
        return named.group(1)
    stream = io.BytesIO(_pickle_bytes(file))
    strings: list[str] = []
    try:
        while True:  # torch's old format is several pickles in a row
            for opcode, argument, _position in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST"):
                    strings = str(argument).split(" ", 1)
                elif isinstance(argument, str):
                    strings = [*strings[-1:], argument]
                imports = opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL")
                if imports and strings[0].split(".")[0] not in ("torch", "collections"):
                    return ".".join(strings)
    except ValueError:  # the end of what is a pickle
        return None


def _pickle_bytes(file: Path) -> bytes:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            name = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            return archive.read(name) if name else b""
    with file.open("rb") as stream:
        return stream.read(2**24)
