from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tfcli.data.common.request import Request
from tfcli.data.sources.folder import Folder
from tfcli.errors import DataError


def fill(folder, classes: dict[str, int]) -> None:
    for c, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((8, 8, 3), 40 * c + i, dtype=np.uint8)).save(folder / name / f"{i}.png")


def load(root, **kwargs):
    return Folder().load(Request(name="folder", root=root, **kwargs))


def test_one_folder_a_class(tmp_path):
    fill(tmp_path, {"dog": 10, "cat": 20})
    loaded = load(tmp_path)
    assert loaded.classes["label"] == ["cat", "dog"]
    assert {s: np.bincount(items["label"]).tolist() for s, items in loaded.splits.items()} == {
        "train": [16, 8],
        "test": [4, 2],
    }
    train, test = (set(loaded.splits[s]["image"].paths) for s in ("train", "test"))
    assert not train & test
    assert all(
        path.parent.name == loaded.classes["label"][y]
        for path, y in zip(loaded.splits["test"]["image"].paths, loaded.splits["test"]["label"], strict=True)
    )
    assert any("test_fraction=0.2" in note for note in loaded.notes)
    assert load(tmp_path).splits["test"]["image"].paths == loaded.splits["test"]["image"].paths
    assert load(tmp_path, split_seed=1).splits["test"]["image"].paths != loaded.splits["test"]["image"].paths


def test_train_valid_test_trees(tmp_path):
    for split, count in (("train", 6), ("valid", 2), ("test", 3)):
        fill(tmp_path / split, {"a": count, "b": count})
    loaded = load(tmp_path)
    assert loaded.counts == {"train": 12, "val": 4, "test": 6}
    assert not loaded.notes


def test_hidden_and_stray_entries_are_noted(tmp_path):
    fill(tmp_path, {"a": 3, "b": 3, ".ipynb_checkpoints": 2, "__MACOSX": 1})
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "a" / "labels.csv").write_text("x")
    (tmp_path / "a" / ".DS_Store").write_text("x")
    loaded = load(tmp_path)
    assert loaded.classes["label"] == ["a", "b"]
    assert sum(loaded.counts.values()) == 6
    assert any("3 hidden" in note for note in loaded.notes)
    assert any("2 entries that are no images" in note for note in loaded.notes)


def test_an_empty_class_is_named(tmp_path):
    fill(tmp_path, {"a": 3, "b": 3, "nobody": 0})
    with pytest.raises(DataError, match="nobody"):
        load(tmp_path)


def test_differing_class_lists_are_listed(tmp_path):
    fill(tmp_path / "train", {"a": 2, "b": 2, "c": 2})
    fill(tmp_path / "val", {"a": 2, "b": 2, "d": 2})
    with pytest.raises(DataError, match="only in train: c; only in val: d"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["Äpfel 🍎", "two words", "a\nb", "-dash", "日本語"])
def test_any_name_is_a_class(tmp_path, name):
    fill(tmp_path, {name: 3, "other": 3})
    assert name in load(tmp_path).classes["label"]


def test_wrong_roots_say_what_is_expected_and_found(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*absent(.|\n)*FOLDER/CLASS/IMAGE"):
        load(tmp_path / "absent")
    with pytest.raises(DataError, match="an empty folder"):
        load(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "lonely.png")
    with pytest.raises(DataError, match=r"no class folders(.|\n)*lonely.png"):
        load(tmp_path)
    fill(tmp_path / "inner" / "train", {"a": 2, "b": 2})
    with pytest.raises(DataError, match="one deeper"):
        load(tmp_path)
    fill(tmp_path / "partial" / "test", {"a": 2, "b": 2})
    with pytest.raises(DataError, match="no train folder"):
        load(tmp_path / "partial")
    (tmp_path / "texts" / "a").mkdir(parents=True)
    (tmp_path / "texts" / "a" / "a.txt").write_text("x")
    with pytest.raises(DataError, match="has an image"):
        load(tmp_path / "texts")


@pytest.mark.parametrize(
    "names", [("Train", "Val", "Test"), ("train_set", "dev", "test_set"), ("TRAINING", "validation", "testing")]
)
def test_splits_are_known_by_any_of_their_names(tmp_path, names):
    for name, count in zip(names, (6, 2, 3), strict=True):
        fill(tmp_path / name, {"a": count, "b": count})
    loaded = load(tmp_path)
    assert loaded.classes["label"] == ["a", "b"]
    assert loaded.counts == {"train": 12, "val": 4, "test": 6}


def test_what_looks_like_splits_is_never_a_class(tmp_path):
    fill(tmp_path / "flat", {"Train": 3, "Val": 2})
    with pytest.raises(DataError, match=r"Train, Val in .* look like splits"):
        load(tmp_path / "flat")
    fill(tmp_path / "mixed" / "Test", {"a": 2})
    fill(tmp_path / "mixed", {"a": 2})
    with pytest.raises(DataError, match=r"Test in .* look like splits"):
        load(tmp_path / "mixed")
    for name in ("val", "dev", "train"):
        fill(tmp_path / "twice" / name, {"a": 2, "b": 2})
    with pytest.raises(DataError, match="dev, val may all be the val split"):
        load(tmp_path / "twice")
    fill(tmp_path / "vehicles", {"bus": 3, "train": 3, "test tube": 3})
    assert load(tmp_path / "vehicles").classes["label"] == ["bus", "test tube", "train"]


def test_folders_of_other_programs_are_no_classes(tmp_path):
    foreign = ["@eaDir", "__pycache__", "$RECYCLE.BIN", "System Volume Information", "lost+found"]
    fill(tmp_path, {"a": 3, "b": 3, **dict.fromkeys(foreign, 1)})
    loaded = load(tmp_path)
    assert loaded.classes["label"] == ["a", "b"]
    assert any("5 hidden entries and entries of other programs ignored" in note for note in loaded.notes)


def test_a_link_in_a_circle_is_one_line(tmp_path):
    fill(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a" / "self").symlink_to("self")  # opened as a file, it would say so
    load(tmp_path)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"a/up is a link to .*, in which it lies") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_names_of_two_unicode_forms_are_one_class(tmp_path):
    fill(tmp_path / "train", {"caf\u00e9": 3, "cafe\u0301": 2, "tea": 1})
    fill(tmp_path / "test", {"cafe\u0301": 1, "tea": 1})
    loaded = load(tmp_path)
    assert loaded.classes["label"] == ["caf\u00e9", "tea"]
    assert {s: np.bincount(items["label"]).tolist() for s, items in loaded.splits.items()} == {
        "train": [5, 1],
        "test": [1, 1],
    }
