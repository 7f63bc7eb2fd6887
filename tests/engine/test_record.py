"""results.json, metrics.csv and finding runs."""

from __future__ import annotations

import json
import math
import os

import pytest

from tfcli.engine.runs import record
from tfcli.engine.runs.record import Record, find_run, read_metrics, read_record
from tfcli.errors import RunError


def make(root, name="train/vit-digits/20261120-231500-7f30", **values):
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 3\ndata: {name: digits}\n")
    given = {"verb": "train", "status": "finished", "model": "vit", "data": "digits", **values}
    Record(**given).write(folder)
    return folder


def test_a_record_is_read_as_it_was_written(tmp_path):
    written = Record(
        verb="train",
        status="finished",
        model="vit",
        data="pets",
        seed=2,
        metrics={"test/accuracy": 0.9, "test/loss": math.nan},
        intervals={"test/accuracy": [0.88, 0.92]},
        baselines={"logistic_pixels": 0.5},
        error=None,
    )
    path = written.write(tmp_path)
    text = json.loads(path.read_text())
    assert text["schema"] == 1
    assert text["metrics"]["test/loss"] is None
    assert "title" not in text
    read = read_record(tmp_path)
    assert math.isnan(read.metrics.pop("test/loss"))
    written.metrics.pop("test/loss")
    assert read == written
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": 7}', "schema 7"),
        ("{", "not JSON"),
        ("[]", "no JSON object"),
        ("{}", "no `schema`"),
        ('{"schema": 1, "verb": "train"}', "`status`, `model`, `data`"),
    ],
)
def test_a_record_that_cannot_be_read_says_why(tmp_path, text, said):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(RunError, match=said):
        read_record(tmp_path)


def test_unknown_keys_are_ignored_and_a_missing_record_is_unfinished(tmp_path):
    folder = make(tmp_path)
    path = folder / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "future": 1}))
    assert read_record(folder).status == "finished"
    path.unlink()
    read = read_record(folder)
    assert (read.status, read.model, read.data, read.verb, read.seed) == ("unfinished", "vit", "digits", "train", 3)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    folder = make(tmp_path)
    before = (folder / "results.json").read_text()

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        Record(verb="train", status="failed", model="vit", data="digits").write(folder)
    assert (folder / "results.json").read_text() == before
    assert not list(folder.glob(".*tmp"))


def test_runs_are_found_by_path_name_id_and_pair(tmp_path):
    one = make(tmp_path)
    two = make(tmp_path, "train/vit-digits/20261120-231501-8a11")
    pets = make(tmp_path, "train/resnet34-pets/20261119-231501-9c22", model="resnet34", data="pets")
    job = make(tmp_path, "sweep/train-vit-digits/20261121-000000-abcd/001-0b939fcf")
    (tmp_path / "latest").symlink_to(two.relative_to(tmp_path))
    assert record.all_runs(tmp_path) == [job, two, one, pets]
    for text, run in {
        str(one): one,
        str(one / "results.json"): one,
        "latest": two.resolve(),
        "20261120-231500": one,
        "8a11": two,
        "vit-digits": two,
        "resnet34-pets": pets,
        "001-0b939fcf": job,
        "0b939": job,
        "20261121-000000-abcd/001-0b939fcf": job,
        "vit-digits/20261120-231500-7f30": one,
    }.items():
        assert find_run(text, root=tmp_path) == run, text
    assert find_run(record.run_name(job), root=tmp_path) == job


def test_the_latest_run_is_the_newest_that_has_what_is_needed(tmp_path):
    for name in ("train/vit-digits/20260101-000000-aaaa", "probe/vit-digits/20260101-000001-bbbb"):
        (tmp_path / name).mkdir(parents=True)
        Record(name.split("/")[0], "finished", "vit", "digits").write(tmp_path / name)
    (tmp_path / "latest").symlink_to("probe/vit-digits/20260101-000001-bbbb")
    assert find_run("latest", root=tmp_path).name.endswith("bbbb")
    with pytest.raises(RunError, match=r"none of the 2 runs .* has `checkpoints/\*\.ckpt`"):
        find_run("latest", root=tmp_path, needs=record.CHECKPOINT)
    (tmp_path / "train/vit-digits/20260101-000000-aaaa/checkpoints").mkdir()
    (tmp_path / "train/vit-digits/20260101-000000-aaaa/checkpoints/last.ckpt").touch()
    assert find_run("latest", root=tmp_path, needs=record.CHECKPOINT).name.endswith("aaaa")


def test_a_run_that_is_not_found_says_what_is_near(tmp_path):
    with pytest.raises(RunError, match="nor any other below"):
        find_run("latest", root=tmp_path)
    make(tmp_path)
    make(tmp_path, "train/vit-digits/20261120-231501-8a11")
    with pytest.raises(RunError, match="may mean 2 runs"):
        find_run("20261120", root=tmp_path)
    with pytest.raises(RunError, match="Did you mean `vit-digits`"):
        find_run("vit-digit", root=tmp_path)
    with pytest.raises(RunError, match="no run folder"):
        find_run(f"{tmp_path}/", root=tmp_path)
    assert find_run("latest", root=tmp_path).name == "20261120-231501-8a11"


def test_torn_and_repeated_lines_of_metrics(tmp_path):
    path = tmp_path / "metrics.csv"
    assert read_metrics(path) == []
    path.write_text(
        "epoch,step,name,value\n"
        "0,10,train/loss,2.0\n"
        "0,20,train/loss,1.5\n"
        "0,3epoch,step,name,value\n"  # torn by a kill, then appended to
        "0,20,train/loss,1.4\n"
        "0,20,val/accuracy,nan\n"
        "1,30,train/loss,0.1234"  # torn
    )
    rows = read_metrics(path)
    assert [row[:3] for row in rows] == [(0, 10, "train/loss"), (0, 20, "train/loss"), (0, 20, "val/accuracy")]
    assert rows[1].value == 1.4


def test_an_old_record_has_the_order_and_titles_of_today(tmp_path):
    metrics = {"test/accuracy": 0.5, "test/accuracy_top5": 0.9, "test/loss": 1.0, "test/calibration_error": 0.1}
    values = Record("train", "finished", "vit", "digits", metrics=metrics).to_json()
    values["lower_is_better"] = ["calibration_error", "loss"]
    (tmp_path / "results.json").write_text(json.dumps(values))
    figures = read_record(tmp_path).figures or {}
    assert [info.title for info in figures.values()] == ["accuracy", "top 5", "loss", "calibration error"]
    assert [name for name, info in figures.items() if info.lower_is_better] == ["loss", "calibration_error"]
