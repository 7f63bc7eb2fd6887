"""Texts that come as records, and the line that is wrong."""

from __future__ import annotations

import json

import pytest
from written import write

from tfcli.data.sources import layouts
from tfcli.data.sources.textrecords import TextRecords
from tfcli.errors import DataError


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
