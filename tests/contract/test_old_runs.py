"""Runs that an earlier version made: each is resumed to the losses that that version gives, and every verb opens it.

`tests/fixtures/old_runs/make.py` made them.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tfcli.cli.app import app
from tfcli.engine.train.run import resume

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "old_runs" / "runs.tar.xz"
with tarfile.open(ARCHIVE) as _archive:
    NAMES = sorted(member.name.partition("/")[0] for member in _archive if member.name.endswith("/config.yaml"))
FAST = ("classify_local", "contrastive", "lm", "text_classify", "translate")
CLOSE = {"rel": 1e-4, "abs": 1e-4}

USES = {
    "classify": ["predict RUN one.png", "probe RUN digits --heads knn data.limit_train=40 data.limit_test=10"],
    "classify_local": ["predict RUN one.png", "rerun RUN trainer.max_steps=1 run.dir=again_local"],
    "classify_window": ["predict RUN one.png", "rerun RUN trainer.max_steps=1 run.dir=again_window"],
    "distill": ["predict RUN one.png"],
    "contrastive": ["predict RUN one.png", "predict RUN one.png --labels circle,square"],
    "lm": ["sample RUN --text a --length 3"],
    "mlm": ["words RUN --word dog dog dog,cat"],
    "text_classify": ["predict RUN --text good"],
    "text_classify_gpt": ["predict RUN --text good"],
    "text_regress": ["predict RUN --text good"],
    "tag": ["predict RUN --text good"],
    "span": ["predict RUN --text who --pair good"],
    "choice": ["predict RUN --text who --pair good --pair bad"],
    "translate": ["sample RUN --text abc --length 3"],
    "translate_rnn": ["sample RUN --text abc --length 3"],
}
"""What a run of each task is for, besides `runs show` and `evaluate`."""


@pytest.fixture(scope="module")
def old_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the unpacked runs. Work on copies."""
    folder = tmp_path_factory.mktemp("old_runs")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(folder / "one.png")
    return folder


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_an_old_run_is_resumed_to_the_losses_of_the_version_that_made_it(name, old_runs, tmp_path, monkeypatch):
    monkeypatch.chdir(old_runs)
    copy = shutil.copytree(name, tmp_path / name)
    _, record = resume(copy, ["trainer.max_epochs=2"])
    expected = json.loads(Path("expected.json").read_text())[name]
    assert {key: record.metrics[key] for key in expected} == pytest.approx(expected, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_old_run_opens_with_the_verbs_of_its_task(name, old_runs, monkeypatch):
    monkeypatch.chdir(old_runs)
    for words in (*USES[name], f"runs show {name}", f"evaluate {name}"):
        done = CliRunner().invoke(app, words.replace("RUN", name).split())
        assert done.exit_code == 0, f"{words}: {done.exception!r}\n{done.output}"
