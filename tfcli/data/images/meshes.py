"""Pictures of meshes: faces are shaded by their angle to the light and drawn from far to near."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

_FINER = 3  # factor of oversampling, for smooth edges
_TURN, _TILT = np.radians(35), np.radians(20)
_LIGHT = np.array([0.4, 0.7, 0.6])
_SHOWN_EDGES = 1500  # edges are drawn up to this number of faces


def shaded(vertices: np.ndarray, faces: Sequence[Sequence[int]], size: tuple[int, int]) -> Image.Image:
    """Return a picture of a mesh, seen from the front right and above.

    Args:
        vertices: (V, 3) coordinates; the second axis points upwards.
        faces: the corners of each face, as rows of `vertices`.
        size: width and height of the picture, in pixels.
    """
    wide, high = (_FINER * length for length in size)
    turn = np.array([[np.cos(_TURN), 0, -np.sin(_TURN)], [0, 1, 0], [np.sin(_TURN), 0, np.cos(_TURN)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(_TILT), -np.sin(_TILT)], [0, np.sin(_TILT), np.cos(_TILT)]])
    seen = (vertices - (vertices.max(axis=0) + vertices.min(axis=0)) / 2) @ (tilt @ turn).T
    span = (seen.max(axis=0) - seen.min(axis=0))[:2].clip(1e-9)
    middle = (seen.max(axis=0) + seen.min(axis=0))[:2] / 2
    flat = (seen[:, :2] - middle) * (0.92 * min(wide / span[0], high / span[1])) * [1, -1] + [wide / 2, high / 2]
    light = _LIGHT / np.linalg.norm(_LIGHT)
    picture = Image.new("RGB", (wide, high), "white")
    draw = ImageDraw.Draw(picture)
    edge = (70, 80, 95) if len(faces) <= _SHOWN_EDGES else None
    for face in sorted(faces, key=lambda face: seen[list(face), 2].mean()):
        corners = seen[list(face)]
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        length = np.linalg.norm(normal)
        bright = 0.5 + 0.5 * abs(normal @ light) / length if length else 0.5
        fill = tuple(round(bright * part) for part in (205, 215, 230))
        draw.polygon([tuple(point) for point in flat[list(face)]], fill=fill, outline=edge)
    return picture.resize(size, Image.Resampling.LANCZOS)
