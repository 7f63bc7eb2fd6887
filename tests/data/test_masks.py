"""Masks: classes and void, and what is said of files that are torn, missing or no masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from written import packaged_source, write

from tfcli.data.columns.tables import LoadedTables
from tfcli.data.images.inspect import inspect
from tfcli.data.images.masks import VOID, MaskReader
from tfcli.data.sources.pairedfiles import MatchedFiles
from tfcli.errors import ConfigError, DataError

GREY = np.full((4, 6, 3), 90, dtype=np.uint8)


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
    columns = packaged_source("camvid").read(camvid(tmp_path))
    assert {split: len(found["mask"]) for split, found in columns.items()} == {"train": 2, "val": 1}
    first, second = columns["train"]["mask"].take([0, 1])
    assert first.tolist() == [[0, VOID], [10, 0]]
    assert second.tolist() == [[0, VOID], [10, 1]]
    assert np.array_equal(columns["train"]["image"].take([1])[0], GREY)
    classes = packaged_source("camvid").classes
    assert len(classes) == 11
    assert classes[8] == "car"


def test_the_authors_own_list_names_his_folder(tmp_path):
    own = "/SegNet/CamVid/train/a.png /SegNet/CamVid/trainannot/a.png\n"
    write(camvid(tmp_path) / "CamVid/train.txt", own)
    assert packaged_source("camvid").read(tmp_path)["train"]["image"].paths == [tmp_path / "CamVid/train/a.png"]


def test_what_is_wrong_with_a_list_of_masks_is_said(tmp_path):
    root, reader = camvid(tmp_path), packaged_source("camvid")
    (root / "CamVid/trainannot/b.png").unlink()
    with pytest.raises(DataError, match=r"train\.txt: 1 of 2 mask files .* missing: .*trainannot/b\.png.* of the list"):
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
    for values in ({300: "a"}, {0: None}, {"zero": "a"}, {False: "a"}, ["a", "b"]):
        with pytest.raises(ConfigError, match=r"`masks` must map pixel values 0\.\.255"):
            MaskReader(values)
    with pytest.raises(ConfigError, match="the class 1 must be a text in quotes, but is True"):
        MaskReader({0: "no", 1: True})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"columns": {"image": "{split}/{id}.png", "right": "m/{nam}.png"}},
            r"`columns\.right`: .* no field `\{nam\}`",
        ),
        ({"columns": {"image": "{split}/{id}{id}.png"}}, r"`columns\.image`: `\{id\}` must occur only once"),
        ({"columns": {"image": "{split}/{}.png"}}, r"`columns\.image`: `\{\}` must be a name"),
        ({"columns": {"image": "{split}/{id.png"}}, r"`columns\.image`: a brace is not closed"),
        ({"columns": ["image"]}, r"`columns` must map names to texts, .* but is \['image'\]"),
        ({"splits": {"val": "train"}}, "`splits` must have `train`, .* but has only val"),
        ({"splits": "train"}, "`splits` must map names to texts, .* but is 'train'"),
    ],
)
def test_a_malformed_key_of_a_users_set_is_named(changes, said):
    with pytest.raises(ConfigError, match=said):
        MatchedFiles(**{"splits": {"train": "train"}, "columns": {"image": "{split}/{id}.png"}} | changes)


def test_the_check_decodes_each_file_of_all_splits(tmp_path):
    """A torn image in val, a mask without its class, one of other size and an empty image: each is counted once."""
    columns = {"image": "{split}/{id}.png", "mask": "{split}-masks/{id}.png"}
    source = MatchedFiles({"train": "a", "val": "b"}, columns, masks={0: "no", 1: "yes"})
    noise = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    for number, folder in enumerate("aaaab"):
        write(tmp_path / f"{folder}/{number}.png", noise[number])
        write(tmp_path / f"{folder}-masks/{number}.png", np.zeros((4, 6), dtype=np.uint8))
    loaded = LoadedTables(source.read(tmp_path))
    assert inspect(loaded).unreadable == []
    write(tmp_path / "b/4.png", (tmp_path / "b/4.png").read_bytes()[:80])
    write(tmp_path / "a/0.png", b"")
    write(tmp_path / "a-masks/1.png", np.full((4, 6), 77, dtype=np.uint8))
    write(tmp_path / "a-masks/2.png", np.zeros((2, 3), dtype=np.uint8))
    empty, other, small, torn = inspect(loaded).unreadable
    assert empty.endswith("a/0.png: the file is empty (0 bytes)")
    assert other.endswith("a-masks/1.png: the value 77 of the mask stands for no class")
    assert small.endswith("a-masks/2.png: the mask is 2 x 3, but `image` is 4 x 6")
    assert "b/4.png: " in torn


def test_trimaps_are_masks_of_the_animal(tmp_path):
    inside = tmp_path / "oxford-iiit-pet"
    for name in ("Cat_1", "dog_2"):
        write(inside / f"images/{name}.jpg", GREY)
        write(inside / f"annotations/trimaps/{name}.png", np.array([[1, 2, 3]], dtype=np.uint8))
    write(inside / "annotations/trainval.txt", "#Image CLASS-ID SPECIES BREED\nCat_1 1 1 1\n")
    write(inside / "annotations/test.txt", "dog_2 2 2 1\n")
    columns = packaged_source("pets_trimaps").read(tmp_path)
    assert packaged_source("pets_trimaps").classes == ["background", "pet"]
    assert columns["test"]["mask"].take([0])[0].tolist() == [[1, 0, VOID]]


@pytest.mark.parametrize(
    ("folder", "name", "counts"), [("camvid", "camvid", (367, 101)), ("pets3", "pets_trimaps", (300, 298))]
)
def test_real_masks_lie_on_their_images(real_data, folder, name, counts):
    columns = packaged_source(name).read(real_data / folder)
    assert tuple(len(found["mask"]) for found in columns.values()) == counts
    for found in columns.values():
        rows = np.arange(0, len(found["mask"]), 40)
        for image, mask in zip(found["image"].take(rows), found["mask"].take(rows), strict=True):
            assert image.shape[:2] == mask.shape
            assert len(set(np.unique(mask).tolist()) - {VOID}) > 1
