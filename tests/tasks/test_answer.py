"""Answers about images: what the question alone gives, and a run on real files and one on generated scenes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tfcli.cli.app import app
from tfcli.data.module import DataModule
from tfcli.engine.use.image_model import load_image_model
from tfcli.errors import ConfigError, DataError, TfcliError
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
        with pytest.raises(ConfigError, match=r"answers questions about images.* needs `--question"):
            app(["predict", str(tmp_path / "run"), *words], standalone_mode=False)
    monkeypatch.setattr(DataModule, "prepare", lambda self: pytest.fail("the data were read"))
    with pytest.raises(DataError, match=r"32 px, but `data.image_size` is 64: leave it out"):
        app(["evaluate", str(tmp_path / "run"), "data.image_size=64"], standalone_mode=False)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    ask_about_files(tmp_path, capsys)


def ask_about_files(folder: Path, capsys) -> None:
    """The run says of files in a folder what its net says of their pixels."""
    side = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype("uint8")
    for name, pixels in zip("ab", side, strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "c.png").write_text("no image")
    questions = ["what shape is it?", "is it red?"]
    words = ["predict", str(folder / "run"), "a.png", "b.png", *(w for q in questions for w in ("--question", q))]
    app([*words, "--top", "2", "--json"], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)
    assert [(row["file"], row["question"]) for row in rows] == [(f, q) for f in ("a.png", "b.png") for q in questions]
    loaded = load_image_model(folder / "run", [])
    image = torch.from_numpy(side).movedim(-1, 1).float() / 255
    image = (image - torch.tensor(loaded.data.mean)[:, None, None]) / torch.tensor(loaded.data.std)[:, None, None]
    for row, (pixels, question) in zip(rows, itertools.product(image, questions), strict=True):
        tokenizer = loaded.tokenizer
        ids = [tokenizer.cls_id, *tokenizer.encode([question])[0], tokenizer.sep_id]
        chance = loaded.net.answer(pixels[None], torch.tensor([ids])).softmax(1)[0]
        assert row["probabilities"] == pytest.approx(chance.sort(descending=True).values[:2].tolist(), abs=1e-4)
        assert row["classes"][0] == loaded.classes[int(chance.argmax())]
    with pytest.raises(TfcliError, match=r"1 of 2 files cannot be used .*\n  c.png"):
        app(["predict", str(folder / "run"), "a.png", "c.png", *words[4:]], standalone_mode=False)
    said = capsys.readouterr().out
    assert "question" in said.splitlines()[0]
    assert said.count("a.png") == 2
    with pytest.raises(ConfigError, match="`--question` is empty"):
        app(["predict", str(folder / "run"), "a.png", "--question", " "], standalone_mode=False)
    with pytest.raises(ConfigError, match="exclude each other"):
        app([*words, "--labels", "a,b"], standalone_mode=False)


def test_a_run_on_real_files(real_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    record = run(tmp_path / "run", "data=easy_vqa", f"data.root={real_data}", "data.limit_test=300")
    assert record["counts"] == {"train": 200, "val": 50, "test": 300}
    assert 0 < record["metrics"]["test/accuracy"] < 1
    assert "0.077 chance" in capsys.readouterr().out
