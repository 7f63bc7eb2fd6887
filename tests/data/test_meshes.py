"""Meshes: vertices and faces, and the line that is wrong."""

from __future__ import annotations

import json

import pytest
from written import packaged_source, write

from tfcli.data.sources.meshes import read_mesh
from tfcli.errors import DataError

CUBE = """# a comment
v 0 0 0
v 1 0 0 0.5
v 1 1 0
vn 0 0 1
v 0 1 1e-1
g top
f 1 2 3 4
f 1/1/1 2//1 3/2
f -4 -3 \\
  -2
"""


def test_a_mesh_has_vertices_and_faces(tmp_path):
    mesh = read_mesh(write(tmp_path / "m.obj", CUBE))
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.1]]
    assert mesh.faces == [[0, 1, 2, 3], [0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("v 1 2\n", "line 1: `v` must be followed by three numbers; the line is `v 1 2`"),
        ("v 1 2 x\n", "three numbers"),
        (f"{CUBE}f 1 2\n", "line 12: `f` must be followed by three or more"),
        (f"{CUBE}f 1 0 2\n", "counted from 1"),
        (f"{CUBE}f 1 2 5\n", "line 12: a corner is none of the 4 vertices"),
        (f"{CUBE}f 1 2 -5\n", "line 12: a corner is none of the 4 vertices"),
        ("hello\n", "no mesh: it has 0 vertices and 0 faces"),
    ],
)
def test_what_is_wrong_with_a_mesh_is_said(text, said, tmp_path):
    with pytest.raises(DataError, match=said):
        read_mesh(write(tmp_path / "m.obj", text))


def test_real_meshes_have_the_counts_of_their_index(real_data):
    root = real_data / "meshes"
    index, column = json.loads((root / "index.json").read_text()), packaged_source("meshes").read(root)["train"]["mesh"]
    assert [path.name for path in column.paths] == sorted(index)
    for path, mesh in zip(column.paths, column.take(range(len(column))), strict=True):
        assert len(mesh.vertices) == index[path.name]["vertices"], path.name
        assert len(mesh.faces) == index[path.name]["faces"], path.name
