"""`data.on_error=skip` says what it skipped: on screen, in the log and in `bad_files.csv`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfcli.cli.app import app
from tfcli.engine.runs.folder import MAX_NAMED, SkippedFiles

SMALL = ("model=vit", "model.width=8", "model.depth=1", "model.heads=1", "data=folder", "data.image_size=8")
SMALL += ("data.patch_size=4", "data.workers=0", "logger=csv", "trainer.precision=32", "trainer.threads=1")
SMALL += ("trainer.max_epochs=1", "data.on_error=skip", "data.max_bad_fraction=0.5")


def listed(folder: Path) -> list[str]:
    with open(folder / "bad_files.csv", encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["file", "reason"]
    assert all(reason for _, reason in rows)
    return [path for path, _ in rows]


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_a_run_lists_what_it_skips(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "set" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(path)
    bad = [tmp_path / "set" / "a" / f"{i}.png" for i in range(0, 14, 2)]
    for path in bad:
        path.write_text("no image")
    app(["train", *SMALL, f"data.root={tmp_path / 'set'}", f"data.cache={cache}", "run.dir=run"], standalone_mode=False)
    assert sorted(listed(tmp_path / "run")) == sorted(map(str, bad))
    log = (tmp_path / "run" / "log.txt").read_text()
    assert sum(str(path) in log for path in bad) == MAX_NAMED
    assert "bad_files.csv" in log


def test_a_file_is_listed_once(tmp_path, capsys):
    for kept in (SkippedFiles(tmp_path), SkippedFiles(tmp_path)):  # two ranks, or a run and its resumption
        kept.add([("a.png", "empty")])
        kept.add([("a.png", "empty"), ('b, "c".png', "text")])
    assert listed(tmp_path) == ["a.png", 'b, "c".png']
    assert capsys.readouterr().err.count("a.png") == 1
