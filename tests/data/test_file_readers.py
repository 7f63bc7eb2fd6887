"""Readers of files: what they give, on files made here and on the real ones, and what they say of torn ones."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfcli.data.images.disparity import UNKNOWN, read_disparity, read_occluded, read_pfm
from tfcli.data.images.masks import VOID, MaskReader
from tfcli.data.sources import layouts
from tfcli.data.sources.easyvqa import EasyVQA
from tfcli.data.sources.meshes import read_mesh
from tfcli.data.sources.pairedfiles import MatchedFiles
from tfcli.data.sources.textrecords import TextRecords
from tfcli.errors import ConfigError, DataError


def write(path: Path, content: str | bytes | np.ndarray) -> Path:
    """Write a text, bytes or an image, and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        Image.fromarray(content).save(path)
    elif isinstance(content, str):
        path.write_text(content)
    else:
        path.write_bytes(content)
    return path


def pfm(values: np.ndarray, *, big: bool = False) -> bytes:
    """Return a portable float map of (Y, X) values."""
    order = ">" if big else "<"
    header = f"Pf\n{values.shape[1]} {values.shape[0]}\n{1.0 if big else -1.0}\n".encode()
    return header + values[::-1].astype(f"{order}f4").tobytes()


GREY = np.full((4, 6, 3), 90, dtype=np.uint8)


# Masks


def camvid(root: Path) -> Path:
    """Write a CamVid of two images to train on and one to validate with."""
    for split, names in (("train", "ab"), ("val", "c")):
        for number, name in enumerate(names):
            write(root / f"CamVid/{split}/{name}.png", GREY)
            write(root / f"CamVid/{split}annot/{name}.png", np.array([[0, 11], [10, number]], dtype=np.uint8))
        lines = [f"{split}/{name}.png {split}annot/{name}.png" for name in names]
        write(root / f"CamVid/{split}.txt", "\n".join(lines) + "\n")
    return root


def test_masks_have_classes_and_void(tmp_path):
    columns = layouts.camvid().read(camvid(tmp_path))
    assert {split: len(found["mask"]) for split, found in columns.items()} == {"train": 2, "val": 1}
    first, second = columns["train"]["mask"].take([0, 1])
    assert first.tolist() == [[0, VOID], [10, 0]]
    assert second.tolist() == [[0, VOID], [10, 1]]
    assert np.array_equal(columns["train"]["image"].take([1])[0], GREY)
    assert len(layouts.CAMVID.classes) == 11
    assert layouts.CAMVID.classes[8] == "car"


def test_what_is_wrong_with_a_list_of_masks_is_said(tmp_path):
    root, reader = camvid(tmp_path), layouts.camvid()
    (root / "CamVid/trainannot/b.png").unlink()
    with pytest.raises(DataError, match=r"train\.txt: 1 of 2 mask files .* missing: .*trainannot/b\.png"):
        reader.read(root)
    write(root / "CamVid/train.txt", "train/a.png\n")
    with pytest.raises(DataError, match=r"train\.txt, line 1: 1 words, but `CamVid/\{1\}` takes more"):
        reader.read(root)
    write(root / "CamVid/train.txt", "\n")
    with pytest.raises(DataError, match="lists no samples"):
        reader.read(root)
    (root / "CamVid/train.txt").unlink()
    with pytest.raises(DataError, match=r"CamVid/train\.txt is missing"):
        reader.read(root)


def test_a_mask_that_is_none_is_refused(tmp_path):
    reader = MaskReader({1: "a", 2: "b", 3: "a", 7: None})
    assert reader(write(tmp_path / "m.png", np.array([[1, 2, 3, 7]], dtype=np.uint8))).tolist() == [[0, 1, 0, VOID]]
    with pytest.raises(DataError, match=r"x\.png: the value 5 of the mask stands for no class"):
        reader(write(tmp_path / "x.png", np.array([[1, 5]], dtype=np.uint8)))
    with pytest.raises(DataError, match="one value for each pixel, but this file's mode is RGB"):
        reader(write(tmp_path / "c.png", GREY))
    whole = (tmp_path / "m.png").read_bytes()
    with pytest.raises(DataError, match=r"t\.png: "):
        reader(write(tmp_path / "t.png", whole[: len(whole) // 2]))
    for values in ({300: "a"}, {0: None}):
        with pytest.raises(ConfigError, match=r"0\.\.255"):
            MaskReader(values)


def test_trimaps_are_masks_of_the_animal(tmp_path):
    inside = tmp_path / "oxford-iiit-pet"
    for name in ("Cat_1", "dog_2"):
        write(inside / f"images/{name}.jpg", GREY)
        write(inside / f"annotations/trimaps/{name}.png", np.array([[1, 2, 3]], dtype=np.uint8))
    write(inside / "annotations/trainval.txt", "#Image CLASS-ID SPECIES BREED\nCat_1 1 1 1\n")
    write(inside / "annotations/test.txt", "dog_2 2 2 1\n")
    columns = layouts.pets_trimaps().read(tmp_path)
    assert layouts.TRIMAPS.classes == ["background", "pet"]
    assert columns["test"]["mask"].take([0])[0].tolist() == [[1, 0, VOID]]


@pytest.mark.parametrize(
    ("name", "make", "counts"), [("camvid", "camvid", (367, 101)), ("pets3", "pets_trimaps", (300, 298))]
)
def test_real_masks_lie_on_their_images(real_data, name, make, counts):
    columns = getattr(layouts, make)().read(real_data / name)
    assert tuple(len(found["mask"]) for found in columns.values()) == counts
    for found in columns.values():
        rows = np.arange(0, len(found["mask"]), 40)
        for image, mask in zip(found["image"].take(rows), found["mask"].take(rows), strict=True):
            assert image.shape[:2] == mask.shape
            assert len(set(np.unique(mask).tolist()) - {VOID}) > 1


# Questions


def easy_vqa(root: Path, entries: object = None) -> Path:
    """Write an easy-VQA of two images to train on."""
    entries = entries or [["what shape", "circle", 7], ["is it red", "no", 7], ["is it red", "yes", 3]]
    for split in ("train", "test"):
        write(root / f"data/{split}/questions.json", json.dumps(entries))
        for number in (3, 7):
            write(root / f"data/{split}/images/{number}.png", np.full_like(GREY, number))
    write(root / "data/answers.txt", "circle\nyes\nno\n")
    return root


def test_questions_point_to_their_images(tmp_path):
    source = EasyVQA()
    tables = source.read(easy_vqa(tmp_path))["train"]
    questions, images = tables["questions"], tables["images"]["image"]
    assert source.answers(tmp_path) == ["circle", "no", "yes"]
    assert [source.answers(tmp_path)[i] for i in questions["answer"]] == ["circle", "no", "yes"]
    assert len(images) == 2
    assert [image[0, 0, 0] for image in images.take(questions["image"])] == [7, 7, 3]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"a": 1}, "a list of"),
        ([["what", "circle"]], "1 rows are not .question, answer, image.: entry 1"),
        ([["what", "circle", 7], ["what", "blue", 7]], r"does not list: entry 2 \(blue\)"),
        ([["what", "circle", 8]], r"1 of 1 image files that it names are missing: .*8\.png"),
    ],
)
def test_what_is_wrong_with_questions_is_said(entries, said, tmp_path):
    with pytest.raises(DataError, match=said):
        EasyVQA().read(easy_vqa(tmp_path, entries))


def test_torn_questions_are_refused(tmp_path):
    write(easy_vqa(tmp_path) / "data/train/questions.json", '[["what", "circle", 7], ["wh')
    with pytest.raises(DataError, match=r"train/questions\.json, line 1: not JSON"):
        EasyVQA().read(tmp_path)


def test_real_easy_vqa(real_data):
    source, root = EasyVQA(), real_data / "easy_vqa"
    tables = source.read(root)
    assert len(source.answers(root)) == 13
    for split, count, images in (("train", 9732, 1000), ("test", 2384, 250)):
        found = tables[split]
        assert (len(found["questions"]["question"]), len(found["images"]["image"])) == (count, images)
        assert set(found["questions"]["image"].tolist()) == set(range(images))
    assert tables["test"]["images"]["image"].take([0])[0].shape == (64, 64, 3)


# Stereo pairs


@pytest.mark.parametrize("big", [False, True])
def test_a_float_map_is_read_from_the_top(big, tmp_path):
    values = np.array([[1.5, 2, np.inf], [4, -5, 6]], dtype=np.float32)
    path = write(tmp_path / "d.pfm", pfm(values, big=big))
    assert np.array_equal(read_pfm(path), values)
    assert read_disparity(path).tolist() == [[1.5, 2, UNKNOWN], [4, 5, 6]]


def test_a_float_map_with_three_channels(tmp_path):
    values = np.arange(12, dtype="<f4").reshape(2, 2, 3)
    path = write(tmp_path / "c.pfm", b"PF\n2 2\n-1.0\n" + values[::-1].tobytes())
    assert np.array_equal(read_pfm(path), values)


def test_kittis_disparities_have_16_bits(tmp_path):
    path = write(tmp_path / "d.png", np.array([[0, 256, 640]], dtype=np.uint16))
    assert read_disparity(path).tolist() == [[UNKNOWN, 1, 2.5]]
    with pytest.raises(DataError, match="16 bits, but this file's mode is RGB"):
        read_disparity(write(tmp_path / "c.png", GREY))


def test_torn_disparities_are_refused(tmp_path):
    whole = pfm(np.ones((4, 5)))
    with pytest.raises(DataError, match="5 x 4 values take 80 bytes, but the file has 40"):
        read_pfm(write(tmp_path / "t.pfm", whole[:-40]))
    with pytest.raises(DataError, match="not a portable float map"):
        read_pfm(write(tmp_path / "n.pfm", struct.pack("<8f", *range(8))))
    with pytest.raises(DataError, match="No such file"):
        read_pfm(tmp_path / "nothing.pfm")


def test_pairs_are_found_by_their_names(tmp_path):
    for scene in ("b", "a"):
        folder = tmp_path / f"Middlebury2014/train/{scene}"
        for name in ("im0.png", "im1.png"):
            write(folder / name, GREY)
        write(folder / "disp0.pfm", pfm(np.ones((4, 6))))
    columns = layouts.middlebury2014().read(tmp_path)["train"]
    assert list(columns) == ["image", "right", "disparity"]  # nothing says what is occluded
    assert [path.parent.name for path in columns["image"].paths] == ["a", "b"]
    write(tmp_path / "Middlebury2014/train/a/mask0nocc.png", np.array([[255, 128, 0]], dtype=np.uint8))
    with pytest.raises(DataError, match="1 of 2 occluded files"):
        layouts.middlebury2014().read(tmp_path)
    assert read_occluded(tmp_path / "Middlebury2014/train/a/mask0nocc.png").tolist() == [[False, True, False]]
    (tmp_path / "Middlebury2014/train/b/im1.png").unlink()
    with pytest.raises(DataError, match=re.escape("1 of 2 right files that it names are missing")):
        layouts.middlebury2014().read(tmp_path)


def test_names_in_braces_span_folders(tmp_path):
    for place in ("A/1/left/0.png", "A/2/left/10.png", "A/2/right/10.png", "A/1/right/0.png"):
        write(tmp_path / "frames" / place, GREY)
    found = MatchedFiles(
        {"train": "frames/{scene}/left/{frame}.png"},
        {"right": "frames/{scene}/right/{frame}.png"},
        {"image": str, "right": str},
    ).read(tmp_path)["train"]
    assert [path.relative_to(tmp_path).as_posix() for path in found["right"].paths] == [
        "frames/A/1/right/0.png",
        "frames/A/2/right/10.png",
    ]
    with pytest.raises(DataError, match=r"No file is called .*\n  Found in .*colored_0: no such folder"):
        layouts.kitti2012().read(tmp_path / "frames")


@pytest.mark.parametrize(
    ("make", "known"), [("kitti2012", 0.1), ("kitti2015", 0.1), ("middlebury2014", 0.8), ("flying_things", 1.0)]
)
def test_the_real_right_view_shows_what_the_disparity_says(real_data, make, known):
    columns = getattr(layouts, make)().read(real_data / "stereo")["train"]
    image, right, disparity = (columns[name].take([0])[0] for name in ("image", "right", "disparity"))
    assert image.shape == right.shape == (*disparity.shape, 3)
    row, column = np.nonzero(disparity > 0)
    assert len(row) >= known * disparity.size
    there = np.round(column - disparity[row, column]).astype(int)
    inside = there >= 0
    row, column, there = row[inside], column[inside], there[inside]
    off, chance = (
        np.abs(right[row, place].astype(int) - image[row, column]).mean() for place in (there, np.roll(there, 97))
    )
    assert off < chance / 2  # unlike pixels by chance
    if "occluded" in columns:
        occluded = columns["occluded"].take([0])[0]
        assert 0.02 < occluded.mean() < 0.3


# Meshes


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
    index, column = json.loads((root / "index.json").read_text()), layouts.meshes().read(root)["train"]["mesh"]
    assert [path.name for path in column.paths] == sorted(index)
    for path, mesh in zip(column.paths, column.take(range(len(column))), strict=True):
        assert len(mesh.vertices) == index[path.name]["vertices"], path.name
        assert len(mesh.faces) == index[path.name]["faces"], path.name


# Texts


def test_texts_of_records(tmp_path):
    records = [{"instruction": "Add.", "input": "", "output": "3"}, {"instruction": "Say a.", "output": "a", "more": 1}]
    write(tmp_path / "train.json", json.dumps(records))
    columns = layouts.instructions().read(tmp_path)
    assert columns == {"train": {"instruction": ["Add.", "Say a."], "input": ["", ""], "output": ["3", "a"]}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"question": "a", "answer": "b"}\n{"question": "c"}', "1 rows have no text as `answer`: line 2"),
        ('{"question": "a", "answer": " "}', "1 rows have an empty `answer`: line 1"),
        ('{"question": "a", "answer": 3}', "have no text as `answer`: line 1"),
        ('{"question": "a"}', "has no column `answer`"),
        ('{"question": "a", "answ', "line 1: not JSON"),
        ("", "has no records"),
    ],
)
def test_what_is_wrong_with_records_is_said(text, said, tmp_path):
    write(tmp_path / "train.jsonl", text)
    with pytest.raises(DataError, match=said):
        layouts.gsm8k().read(tmp_path)


def test_missing_records_are_named(tmp_path):
    with pytest.raises(DataError, match=r"train\.csv is missing"):
        TextRecords({"train": "train.csv"}, {"text": "text"}).read(tmp_path)


@pytest.mark.parametrize(
    ("make", "folder", "counts"),
    [
        ("instructions", "instructions", {"train": 363, "val": 64}),
        ("gsm8k", "gsm8k", {"train": 7473, "test": 1319}),
        ("preferences", "preferences/gsm8k_pairs", {"train": 621, "test": 110}),
    ],
)
def test_real_records(real_data, make, folder, counts):
    columns = getattr(layouts, make)().read(real_data / folder)
    assert {split: len(next(iter(found.values()))) for split, found in columns.items()} == counts
    if make == "gsm8k":
        assert all("\n#### " in answer for found in columns.values() for answer in found["answer"])
