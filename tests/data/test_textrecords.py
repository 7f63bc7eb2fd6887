"""Texts that come as records, and the line that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT
from omegaconf import OmegaConf
from written import write

from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.request import Request
from tfcli.data.sources.textrecords import TextRecords
from tfcli.errors import DataError


def read(name: str, root: Path) -> LoadedTables:
    """Read a set as its config says, without downloading it."""
    config = OmegaConf.load(ROOT / f"conf/data/{name}.yaml")
    source = OmegaConf.to_container(config.source)
    assert set(source["columns"]) == set(config.columns)
    del source["_target_"]
    return TextRecords(**source).load(Request(name=name, root=root))


def test_texts_of_records(tmp_path):
    records = [{"instruction": "Add.", "input": "", "output": "3"}, {"instruction": "Say a.", "output": "a", "more": 1}]
    write(tmp_path / "train.json", json.dumps(records))
    loaded = read("instructions", tmp_path)
    assert loaded.splits == {"train": {"instruction": ["Add.", "Say a."], "input": ["", ""], "output": ["3", "a"]}}
    assert loaded.where == tmp_path


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
        read("gsm8k", tmp_path)


def test_missing_records_are_named(tmp_path):
    write(tmp_path / "test.jsonl", '{"question": "a", "answer": "b"}')
    with pytest.raises(
        DataError, match=r"gsm8k is not in .*\n  Expected there, .*:\n    train\.jsonl\n  Found: test\.jsonl"
    ):
        read("gsm8k", tmp_path)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("instructions", {"train": 363, "val": 64}),
        ("gsm8k", {"train": 7473, "test": 1319}),
        ("preferences", {"train": 621, "test": 110}),
    ],
)
def test_real_records(real_data, name, counts):
    loaded = read(name, real_data)
    assert loaded.counts == counts
    if name == "gsm8k":
        assert all("\n#### " in answer for rows in loaded.splits.values() for answer in rows["answer"])
