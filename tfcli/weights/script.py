"""Tensors out of a TorchScript archive, without the program in it. OpenAI's CLIP is published this way.

The archive is a zip: `data.pkl` (the modules' attributes, pickled), `data/0`, `data/1`, ... (the tensors' bytes) and
`code/` (the program, which is never read). Unpickled here are attributes alone: whatever the pickle names is one of
the few inert stand-ins below, or the file is refused.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tfcli.errors import WeightsError

DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
OPCODES = {
    *("PROTO", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2"),
    *("LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "EMPTY_LIST", "APPEND", "APPENDS", "LIST"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "REDUCE"),
    *("BUILD", "NEWOBJ", "BINPERSID", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
}
MAX_PICKLE_BYTES = 64 * 2**20
MAX_PARTS = 200_000
MAX_AXES = 16


class _Module:
    """Stands in for any class of the archive: its attributes, nothing else."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Call:
    """Stands in for a function of torch; the pickle can call it, but not change it."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __call__(self, *values: Any) -> Any:
        return self.function(*values)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it gives attributes to a function")


class _Storage(NamedTuple):
    key: str
    dtype: torch.dtype


class _View(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def is_script(file: Path) -> bool:
    """Tell whether a zip file is a TorchScript archive."""
    with zipfile.ZipFile(file) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
    return "constants.pkl" in names and "data.pkl" in names


def load_script(file: Path) -> dict[str, Tensor]:
    """Return the parameters and buffers of a TorchScript archive by their dotted names, mapped into memory.

    Raises:
        WeightsError: it asks for anything but tensors and plain values, or is damaged; nothing in it was run.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            member = next(entry for entry in archive.infolist() if entry.filename.partition("/")[2] == "data.pkl")
            if member.file_size > MAX_PICKLE_BYTES:
                raise WeightsError(f"`{file}` is refused: its list of attributes has {member.file_size:,} bytes.")
            content = archive.read(member)
            root = member.filename.rpartition("/")[0]
            records = {entry.filename: entry for entry in archive.infolist()}
            if len(records) < len(archive.infolist()):
                raise WeightsError(f"`{file}` is refused: two of its parts have the same name.")
            order = records.get(f"{root}/byteorder")
            if order and archive.read(order).strip() != b"little":
                raise WeightsError(f"`{file}` was written on a machine of another byte order.")
        _check_opcodes(file, content)
        views = _collect(_Reader(io.BytesIO(content)).load())
        if not views:
            raise WeightsError(f"`{file}` is a TorchScript archive without tensors.")
        keys = {view.storage.key for view in views.values()}
        starts = {key: _start(file, records.get(f"{root}/data/{key}"), key) for key in keys}
        whole = torch.from_file(str(file), shared=False, size=file.stat().st_size, dtype=torch.uint8)
        return {name: _tensor(file, name, view, whole, *starts[view.storage.key]) for name, view in views.items()}
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        OverflowError,
        OSError,
        NotImplementedError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"`{file}` is damaged or not a TorchScript archive: {reason[:200]}") from error


def _check_opcodes(file: Path, content: bytes) -> None:
    """Read the pickle without running it: known opcodes, inert names, and a memory no larger than the file."""
    for opcode, argument, _position in pickletools.genops(content):
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            if _stand_in(module, name) is None:
                raise WeightsError(
                    f"`{file}` is refused: it asks to import `{module}.{name}`, and a checkpoint must hold tensors, "
                    "not code. Nothing in it was run. Ask its author for the state dict alone, as safetensors."
                )
        elif opcode.name not in OPCODES:
            raise WeightsError(f"`{file}` is refused: its list of attributes has the opcode {opcode.name}.")
        elif opcode.name.endswith("BINPUT") and int(argument or 0) > len(content):
            raise WeightsError(f"`{file}` is refused: its list of attributes claims {argument:,} memory cells.")


def _stand_in(module: str, name: str) -> Any:
    """Return the stand-in for a name in the pickle; None for names that are not allowed."""
    if module.startswith("__torch__"):
        return _Module
    if module == "torch" and name in DTYPES:
        return DTYPES[name]
    if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
        return _Call(_view)
    if module == "torch.jit._pickle" and name in LISTS:
        return _Call(lambda value, *_: value)
    if (module, name) == ("torch", "device"):
        return _Call(lambda *_: None)
    return dict if (module, name) == ("collections", "OrderedDict") else None


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _stand_in(module, name)
        if found is None:
            raise pickle.UnpicklingError(f"it asks to import {module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key = pid[:3]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError(f"it refers to {kind!r}, not to a tensor's bytes")
        return _Storage(key, dtype)


def _view(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _View:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride) or len(size) > MAX_AXES:
        raise ValueError("a tensor without its bytes or shape")
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        raise ValueError(f"a tensor of shape {size!r} and stride {stride!r}")
    return _View(storage, offset, tuple(size), tuple(stride))


def _collect(root: Any) -> dict[str, _View]:
    """Return the tensors among the attributes of a module, and of the modules among them, by their dotted names."""
    views: dict[str, _View] = {}
    waiting: list[tuple[str, Any]] = [("", root)]
    for _ in range(MAX_PARTS):
        if not waiting:
            return views
        name, node = waiting.pop()
        if isinstance(node, _View):
            views[name] = node
        elif isinstance(node, _Module):
            children = getattr(node, "attributes", {}).items()
            waiting += [(f"{name}.{key}" if name else str(key), child) for key, child in reversed(children)]
    raise ValueError(f"its modules have more than {MAX_PARTS:,} parts, or contain each other")


def _start(file: Path, record: zipfile.ZipInfo | None, key: str) -> tuple[int, int]:
    """Return where the bytes of a record begin in the file, and how many there are."""
    if record is None:
        raise ValueError(f"data/{key} is missing")
    if record.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"data/{key} is compressed")
    with file.open("rb") as stream:
        stream.seek(record.header_offset + 26)
        lengths = stream.read(4)
    start = record.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    if start + record.file_size > file.stat().st_size:
        raise ValueError(f"data/{key} ends after the file")
    return start, record.file_size


def _tensor(file: Path, name: str, view: _View, whole: Tensor, start: int, length: int) -> Tensor:
    values = length // view.storage.dtype.itemsize
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.size, view.stride, strict=True))
    count = prod(view.size)
    if count > values or (count > 0 and last >= values):
        raise WeightsError(f"`{file}`: `{name}` claims shape {view.size} without the data for it; refused.")
    data = whole[start : start + length]
    data = data if start % view.storage.dtype.itemsize == 0 else data.clone()
    data = data[: values * view.storage.dtype.itemsize].view(view.storage.dtype)
    return data.as_strided(view.size, view.stride, data.storage_offset() + view.offset)
