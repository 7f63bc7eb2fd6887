"""Reader of meshes in Wavefront's format: lines `v x y z` for vertices and `f 1 2 3 ...` for faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfcli.data.common.printable import printable
from tfcli.data.sources.tables import read_lines
from tfcli.errors import DataError


@dataclass(frozen=True)
class Mesh:
    """A surface of polygons.

    Attributes:
        vertices: (V, 3) float64.
        faces: the three or more corners of each face, as rows of `vertices`.
    """

    vertices: np.ndarray
    faces: list[list[int]]


def read_mesh(path: Path) -> Mesh:
    """Return the mesh of a file, without normals, textures, groups and materials.

    Corners are counted from 1, or backwards from the latest vertex (-1), and may have texture and normal (`1/2/3`).

    Raises:
        DataError: the file cannot be read, a line is malformed, or there are no vertices or faces.
    """
    vertices: list[list[float]] = []
    faces: list[list[int]] = []
    places: list[int] = []
    for number, line in _lines(path):
        kind, *cells = line.split("#")[0].split() or [""]
        try:
            if kind == "v":
                vertices.append(_vertex(cells))
            elif kind == "f":
                faces.append(_face(cells, len(vertices)))
                places.append(number)
        except ValueError as error:
            raise DataError(f"{printable(path)}, line {number}: {error}; the line is `{line.strip()[:60]}`.") from None
    if not vertices or not faces:
        raise DataError(f"{printable(path)} is no mesh: it has {len(vertices)} vertices and {len(faces)} faces.")
    for number, face in zip(places, faces, strict=True):
        if not 0 <= min(face) <= max(face) < len(vertices):
            raise DataError(
                f"{printable(path)}, line {number}: a corner is none of the {len(vertices)} vertices of the file. "
                "It may be cut short."
            )
    return Mesh(np.array(vertices, dtype=np.float64), faces)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers; a line that ends with a backslash continues on the next line."""
    begun = ""
    for number, line in enumerate(read_lines(path, encoding="latin-1"), 1):
        begun += line
        if begun.endswith("\\"):
            begun = f"{begun[:-1]} "
        else:
            yield number, begun
            begun = ""


def _vertex(cells: Sequence[str]) -> list[float]:
    try:
        x, y, z = map(float, cells[:3])
    except ValueError:
        raise ValueError("`v` must be followed by three numbers") from None
    return [x, y, z]


def _face(cells: Sequence[str], known: int) -> list[int]:
    try:
        numbers = [int(cell.split("/")[0]) for cell in cells]
    except ValueError:
        numbers = []
    if len(numbers) < 3 or 0 in numbers:
        raise ValueError("`f` must be followed by three or more numbers of vertices, counted from 1")
    return [number - 1 if number > 0 else known + number for number in numbers]
