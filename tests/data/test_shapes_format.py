"""Digests of what an index shows: pixels, masks, labels and sentences stay as they were released."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from tfcli.data.common.request import Request
from tfcli.data.common.rows import taken
from tfcli.data.synthetic.shapes import ShapesWorld
from tfcli.data.synthetic.source import Shapes

INDICES = np.array([0, 1, 2, 3, 50, 999, 20_000, 123_456_789])
ARRAYS = ("image", "objects", "label", "instance", "semantic", "boxes", "amodal")
WORLDS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "one object": ({"size": 32}, {}, "bf755e74ca6b399a"),
    "validation": ({"size": 32}, {"split": "val"}, "6dd6a171a9c7f143"),
    "test, other seed": ({"size": 32, "k": 2, "seed": 7}, {"split": "test", "label": "colour"}, "b0cd4788fe5135a9"),
    "smallest": ({"size": 16, "k": 2}, {"label": "shape"}, "436f4cd8adf91b0c"),
    "new pairs": ({"size": 64, "k": 4}, {"split": "comp"}, "ca15e7bc1c128e82"),
    "varying number": ({"size": 48, "k": 3, "vary": True, "seed": 1}, {"label": "count"}, "b1e3d3db92a3cfaa"),
    "flat colours": ({"size": 96, "k": 4, "texture": False}, {"split": "val"}, "bcc013c97d0ab199"),
    "other stream": ({"size": 64, "k": 4, "vary": True}, {"stream": 9, "label": "count"}, "e4a5a1210510bfb5"),
    "quadrants": ({"size": 32, "k": 3, "quadrants": True}, {"label": "quadrant"}, "3b9e1042d9eba17f"),
    "quadrants, new pairs": (
        {"size": 32, "quadrants": True, "seed": 3},
        {"split": "comp", "label": "quadrant"},
        "733094c1df919105",
    ),
    "quadrants, cross": (
        {"size": 34, "k": 4, "quadrants": True, "cross": 2},
        {"label": "quadrant"},
        "d7f9d707abf6f167",
    ),
}
SETS: dict[str, tuple[dict[str, Any], str]] = {
    "pair": ({}, "60ecb568aa386f71"),
    "count": ({"label": "count", "objects": 4, "size": 48}, "d82f62856dbf2f16"),
    "quadrant": ({"label": "quadrant", "objects": 2, "cross": 2, "size": 34}, "7f9ecbad02002cc9"),
    "comp": ({"test_split": "comp", "caption_objects": 4, "seed": 5}, "81c5a0479cee4098"),
}


def digest(*parts: np.ndarray | list[str]) -> str:
    """Return 16 hexadecimal digits of arrays (of integers, as int64) and sentences."""
    found = hashlib.sha256()
    for part in parts:
        found.update("\n".join(part).encode() if isinstance(part, list) else part.astype("<i8").tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize("name", WORLDS)
def test_a_scene_shows_what_it_showed(name):
    world, address, expected = WORLDS[name]
    batch = ShapesWorld(**world).batch(INDICES, fields=(*ARRAYS, "caption", "captions"), **address)
    sentences = [text for scene in batch["captions"] for text in scene]
    assert [scene[0] for scene in batch["captions"]] == batch["caption"]
    assert digest(*(batch[field] for field in ARRAYS), sentences) == expected


@pytest.mark.parametrize("name", SETS)
def test_the_set_shows_what_it_showed(name, tmp_path):
    settings, expected = SETS[name]
    sizes = {"num_train": 40, "num_val": 10, "num_test": 10, "num_pairs": 6}
    loaded = Shapes(**settings, **sizes).load(Request(name="shapes", root=tmp_path, columns=("image", "caption")))
    parts = []
    for split in ("train", "val", "test"):
        items, pairs = loaded.beside[split], loaded.splits[split]
        parts += [items["label"], *(np.array(taken(rows["image"])) for rows in (items, pairs))]
        parts += [[text for texts in taken(pairs["caption"]) for text in texts]]
    assert digest(*parts) == expected
