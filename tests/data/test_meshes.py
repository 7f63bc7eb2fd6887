"""Meshes: vertices and faces, and the line that is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from written import packaged_source, write

from tfcli.data.sources.meshes import read_mesh
from tfcli.data.views.meshes import Meshes
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
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


def test_meshes_of_a_batch_are_padded(tmp_path):
    write(tmp_path / "obj/a.obj", CUBE)
    write(tmp_path / "obj/b.obj", "v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\n")
    settings = [f"data.root={tmp_path}", "data.val_fraction=0", "data.test_fraction=0", "data.workers=0"]
    data = build(compose("data", ["data=meshes", *settings]).config.data)
    data.serve(Meshes(), ["mesh"])
    batch = data._set("train").samples.batch(np.array([1, 0]), seed=0, epoch=0)
    assert batch["vertices"].shape == (2, 4, 3)
    assert batch["vertices_valid"].tolist() == [[True, True, True, False], [True] * 4]
    assert batch["faces"][0].tolist() == [[0, 1, 2, -1], [-1] * 4, [-1] * 4]
    assert batch["faces"][1].tolist() == [[0, 1, 2, 3], [0, 1, 2, -1], [0, 1, 2, -1]]
    blank, real = data.blank(2), next(iter(data.train_dataloader()))
    assert {name: value.dtype for name, value in blank.items()} == {name: value.dtype for name, value in real.items()}
