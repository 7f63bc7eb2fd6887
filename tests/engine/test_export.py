"""`tfcli export RUN --to FOLDER`: a folder that transformers opens, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tfcli
from parity.folders import quietly
from PIL import Image

from tfcli.cli.app import app
from tfcli.engine.loading.load_model import load_model
from tfcli.engine.use.export import export
from tfcli.errors import RunError


def test_a_run_is_exported_and_answers_as_before(tiny_run: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    app(["export", str(tiny_run), "--to", "made/vit", "--json"], standalone_mode=False)
    facts = json.loads(capsys.readouterr().out)
    folder = tmp_path / facts["folder"]
    assert facts["files"] == sorted(file.name for file in folder.iterdir())
    assert [entry.name for entry in folder.parent.iterdir()] == ["vit"]

    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype("uint8"))
    image.save("a.png")
    answers = []
    for words in ([str(tiny_run)], ["vit", "model.weights=made/vit"]):
        app(["predict", *words, "a.png", "--top", "10", "--json"], standalone_mode=False)
        answers.append(json.loads(capsys.readouterr().out)[0])
    assert answers[0]["classes"] == answers[1]["classes"]
    assert answers[0]["probabilities"] == pytest.approx(answers[1]["probabilities"], abs=1e-5)

    transformers = quietly("transformers")
    theirs = getattr(transformers, facts["architecture"]).from_pretrained(folder).eval()
    seen = transformers.AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt")
    with torch.no_grad():
        probabilities = theirs(**seen).logits.softmax(-1)[0]
    assert theirs.config.id2label[int(probabilities.argmax())] == answers[0]["classes"][0]
    assert float(probabilities.max()) == pytest.approx(answers[0]["probabilities"][0], abs=1e-5)

    card = (folder / "README.md").read_text()
    record = json.loads((tiny_run / "results.json").read_text())
    low, high = record["intervals"]["test/accuracy"]
    assert f"| {record['metrics']['test/accuracy']:.3f} | {low:.3f} to {high:.3f} |" in card
    assert "Licence of the data: CC BY 4.0" in card
    assert "tfcli train model=vit" in card


def test_a_folder_that_exists_is_left_alone(tiny_run: Path, tmp_path: Path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("mine")
    done = tfcli("export", str(tiny_run), "--to", "there", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "tfcli: `there` is there already: name a new folder with --to.\n"
    assert [entry.name for entry in (tmp_path / "there").iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_made_is_refused(tiny_run: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot write to .* Choose another folder with `--to`"):
        export(tiny_run, tmp_path / "file" / "vit")


def test_how_a_loaded_run_sees_images_is_known(tiny_run: Path):
    seen = load_model(tiny_run, []).preprocessing
    assert seen["image_size"] == 8
    assert len(seen["mean"]) == 3
