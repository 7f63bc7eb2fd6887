"""Answers about images: what the question alone gives, and a run on real files and one on generated scenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tfcli.cli.app import app
from tfcli.errors import ConfigError
from tfcli.tasks.answer import blind_guesses

SMALL = (
    "model=vilt", "model.width=32", "model.depth=2", "model.heads=2", "data.epochs=1", "data.limit_train=200",
    "data.limit_val=50", "data.workers=0", "trainer.threads=1", "trainer.precision=32", "logger=csv",
)  # fmt: skip


def test_blind_guesses():
    asked = ["what shape", "what shape", "what shape", "is it red", "is it red", "is it red", "is it blue"]
    answers = np.array([3, 3, 2, 1, 1, 0, 1])
    assert blind_guesses(asked, answers, ["what shape", "is it blue", "is it green"]).tolist() == [3, 1, 1]


def run(folder: Path, *words: str) -> dict:
    app(["train", *SMALL, *words, f"run.dir={folder}"], standalone_mode=False)
    return json.loads((folder / "results.json").read_text())


def test_a_run_on_generated_scenes_is_recorded_and_evaluated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    record = run(tmp_path / "run", "data=shapes_questions", "data.num_train=50", "data.num_val=20", "data.num_test=50")
    assert record["status"] == "finished"
    assert record["task"] == "answer"
    assert record["counts"] == {"train": 200, "val": 50, "test": 200}
    said = capsys.readouterr().out
    assert "commonest answer to the same question" in said
    app(["evaluate", str(tmp_path / "run"), "--json"], standalone_mode=False)
    again = json.loads(capsys.readouterr().out)
    assert again["metrics"]["test/accuracy"] == pytest.approx(record["metrics"]["test/accuracy"])
    for words in (["photo.png"], ["--text", "is it red"]):
        with pytest.raises(ConfigError, match="answers questions about images"):
            app(["predict", str(tmp_path / "run"), *words], standalone_mode=False)


def test_a_run_on_real_files(real_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    record = run(tmp_path / "run", "data=easy_vqa", f"data.root={real_data}", "data.limit_test=300")
    assert record["counts"] == {"train": 200, "val": 50, "test": 300}
    assert 0 < record["metrics"]["test/accuracy"] < 1
    assert "0.077 chance" in capsys.readouterr().out
