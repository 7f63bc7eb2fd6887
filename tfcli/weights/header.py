"""The header of a safetensors file, checked before a byte of it is believed.

Layout: eight bytes with the header's length, that many bytes of JSON (name -> dtype, shape, offsets), then the data.
"""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from tfcli.errors import WeightsError

BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
BITS |= {"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32}
BITS |= {"I64": 64, "U64": 64, "F64": 64, "C64": 64}
MAX_HEADER_BYTES = 10 * 2**20
MAX_TENSORS = 50_000


def check_header(file: Path) -> dict[str, Any]:
    """Return the header of `file`, once its offsets are known to cover the data exactly.

    Raises:
        WeightsError: the header is longer than the file or than 10 MiB, is not JSON, names more than 50,000 tensors,
            has a shape or dtype that cannot be, or offsets that overlap, leave gaps or disagree with the shapes.
    """

    def refuse(reason: str) -> WeightsError:
        return WeightsError(f"`{file}` is not a whole safetensors file: {reason}. It may be cut off; fetch it again.")

    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            raise refuse(f"it has {size} bytes")
        length = struct.unpack("<Q", start)[0]
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise refuse(
                f"its header claims {length:,} bytes, the file has {size:,} and the limit is {MAX_HEADER_BYTES:,}"
            )
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            raise refuse("its header is not JSON") from error
    if not isinstance(header, dict):
        raise refuse("its header is not a table")
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if len(tensors) > MAX_TENSORS:
        raise refuse(f"it claims {len(tensors):,} tensors, the limit is {MAX_TENSORS:,}")
    spans = sorted(_span(name, entry, refuse) for name, entry in tensors.items())
    edges = [(0, 0), *spans, (size - 8 - length, size - 8 - length)]
    for (_, end), (begin, _) in pairwise(edges):
        if begin != end:
            raise refuse(f"its tensors overlap or leave a gap at byte {min(begin, end):,} of the data")
    return header


def _span(name: str, entry: Any, refuse) -> tuple[int, int]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise refuse(f"`{name}` lacks a dtype, a shape or two offsets") from error
    sizes = [*shape, begin, end] if isinstance(shape, list) else [None]
    if not all(type(number) is int and 0 <= number < 2**63 for number in sizes):
        raise refuse(f"`{name}` has shape {shape!r} at {begin!r} to {end!r}")
    if dtype not in BITS:
        raise refuse(f"`{name}` has the unknown dtype {dtype!r}")
    if (end - begin) * 8 != prod(shape) * BITS[dtype]:
        raise refuse(f"`{name}` of shape {shape} and dtype {dtype} cannot fill bytes {begin:,} to {end:,}")
    return begin, end
