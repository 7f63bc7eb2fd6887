"""Folders of images and tables are held to the same conditions: what is wrong is refused, what may be is told."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tfcli.data.columns.checks import check_known
from tfcli.data.module import DataModule
from tfcli.data.sources.folder import Folder
from tfcli.data.sources.texttables import OwnTable
from tfcli.errors import DataError


def folder(root, labels):
    for row, label in enumerate(labels):
        (root / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), row, dtype=np.uint8)).save(root / label / f"{row}.png")
    return DataModule(Folder(), name="own", root=root, image_size=8)


def table(root, labels, kind="label"):
    root.mkdir(parents=True)
    lines = "".join(f"text {row},{label}\n" for row, label in enumerate(labels))
    (root / "train.csv").write_text(f"text,{kind}\n{lines}", encoding="utf-8")
    return DataModule(OwnTable({"text": "text", kind: kind}), name="own", columns=["text", kind], root=root)


KINDS = pytest.mark.parametrize("make", [folder, table])


@KINDS
def test_one_class_is_refused(tmp_path, make):
    with pytest.raises(DataError, match=r"has 1 class \(pos\): a classifier needs at least 2"):
        make(tmp_path / "set", ["pos"] * 30).prepare()


@KINDS
def test_labels_that_differ_in_case_or_spaces_alone_are_told(tmp_path, make):
    data = make(tmp_path / "set", ["very good", "Very  Good", "bad"] * 10)
    data.prepare()
    assert len(data.classes) == 3
    assert any("`Very  Good`, `very good`" in note for note in data.notes)


@KINDS
def test_classes_without_a_training_sample_are_told(tmp_path, make):
    data = make(tmp_path / "set", ["a", "b", "c"] * 10)
    data.limits["train"] = 2
    data.prepare()
    assert any("classes have no training sample" in note for note in data.notes)


def test_scores_that_are_all_the_same_are_refused(tmp_path):
    with pytest.raises(DataError, match="every training score is 3"):
        table(tmp_path / "set", ["3.0"] * 30, kind="score").prepare()
    table(tmp_path / "other", ["3.0", "4"] * 15, kind="score").prepare()


@pytest.mark.parametrize(
    ("known", "said"),
    [(["a", "c"], "has the classes a, b, but the run `r` was trained on others: a, c"), (["b", "a"], "another order")],
)
def test_a_run_is_measured_on_its_own_classes(known, said):
    check_known("set", ["a", "b"], ["a", "b"], run="r")
    check_known("set", ["caf\u00e9"], ["cafe\u0301"], run="r")
    with pytest.raises(DataError, match=said):
        check_known("set", ["a", "b"], known, run="the run `r`")
