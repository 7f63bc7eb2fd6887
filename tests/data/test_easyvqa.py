"""easy-VQA: questions point to their images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from written import write

from tfcli.data.sources.easyvqa import EasyVQA
from tfcli.errors import DataError

GREY = np.full((4, 6, 3), 90, dtype=np.uint8)


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
        ([["what", "circle", 8]], r"1 of 1 image files are missing: .*8\.png"),
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
