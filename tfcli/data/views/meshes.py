"""View of polygon meshes as padded vertices and faces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tfcli.data.common.rows import Columns
from tfcli.data.images.imageset import reader


class Meshes:
    """View of meshes: `{"vertices" (B, V, 3), "vertices_valid" (B, V), "faces" (B, F, C), "index" (B)}`.

    A face is a row of C vertex indices; -1 pads faces with fewer corners and meshes with fewer faces.
    """

    unit, reads_text = "meshes", False

    def encode(self, rows: Columns, tokenizer: Any, *, length: int | None, train: bool) -> Meshed:
        return Meshed(rows["mesh"])


class Meshed:
    """Meshes of one split, each read from disk when a batch needs it.

    Args:
        mesh: the meshes; see `tfcli.data.sources.meshes.Mesh`.
    """

    counted, cut, in_memory = "images", 0, False

    def __init__(self, mesh: Any):
        self.mesh = mesh
        self.lengths, self.notes = np.ones(len(mesh), dtype=np.int64), list[str]()

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int, copies: np.ndarray | None = None) -> dict[str, Tensor]:
        read = reader(self.mesh, rows)
        meshes = [read(position) for position in range(len(rows))]
        vertices = [torch.from_numpy(mesh.vertices).float() for mesh in meshes]
        corners = max(len(face) for mesh in meshes for face in mesh.faces)
        faces = [torch.tensor([face + [-1] * (corners - len(face)) for face in mesh.faces]) for mesh in meshes]
        return {
            "vertices": pad_sequence(vertices, batch_first=True),
            "vertices_valid": pad_sequence(
                [torch.ones(len(own), dtype=torch.bool) for own in vertices], batch_first=True
            ),
            "faces": pad_sequence(faces, batch_first=True, padding_value=-1),
            "index": torch.from_numpy(rows),
        }

    def blank(self, size: int, *, seed: int) -> dict[str, Tensor]:
        """Return a batch of `size` copies of the first mesh."""
        return self.batch(np.zeros(size, dtype=np.int64), seed=seed, epoch=0) | {"index": torch.arange(size)}
