"""A torn or foreign file stops itself alone: it is named in our words, and the rest goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tfcli.cli import app as cli
from tfcli.engine.loading.from_checkpoint import read_checkpoint
from tfcli.engine.runs.record import Record
from tfcli.errors import TfcliError


class Hostile:
    """A pickle that would make a folder where it is opened."""

    def __reduce__(self):
        import os

        return os.mkdir, ("made",)


def run(*words: str) -> None:
    cli.app(list(words), standalone_mode=False)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"tfcli": {}, "state_dict": {"a": Hostile()}}, "asks to import `posix.mkdir`"),
        ({"tfcli": {}, "state_dict": {"a": np.random.RandomState}}, "refused"),
        ({"model": {"a": torch.zeros(2)}}, "not a checkpoint of tfcli"),
        ([1, 2], "not a checkpoint of tfcli"),
        ({"tfcli": 3, "state_dict": {}}, "not a checkpoint of tfcli"),
    ],
    ids=["hostile", "a class", "foreign", "a list", "odd"],
)
def test_a_poisoned_checkpoint_is_refused_in_our_words(content, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "last.ckpt")
    with pytest.raises(TfcliError) as error:
        read_checkpoint(Path("last.ckpt"))
    assert said in str(error.value)
    assert error.value.exit_code == 2
    assert "weights_only" not in str(error.value)
    assert not Path("made").exists()


@pytest.mark.parametrize(
    "words",
    [("resume", "run", "trainer.max_epochs=3"), ("evaluate", "run"), ("probe", "run", "digits")],
    ids=lambda w: w[0],
)
def test_a_checkpoint_of_another_model_is_said_in_a_line(words, tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, "run")
    for name in ("last", "best"):
        file = Path("run", "checkpoints", f"{name}.ckpt")
        checkpoint = torch.load(file, weights_only=True)
        for key in [key for key in checkpoint["state_dict"] if key.startswith("net.stack.blocks.1.")]:
            del checkpoint["state_dict"][key]
        torch.save(checkpoint, file)
    with pytest.raises(
        TfcliError, match=r"^the checkpoint of `\S*run` is of another model than its config\.yaml"
    ) as error:
        run(*words)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_one_torn_record_stops_no_list_of_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, metric in (("20260101-000000-aaaa", 0.5), ("20260101-000001-bbbb", 0.7), ("20260101-000002-cccc", 0.9)):
        folder = Path("outputs", "train", "vit-digits", name)
        folder.mkdir(parents=True)
        Record("train", "finished", "vit", "digits", metrics={"test/accuracy": metric}).write(folder)
    torn = Path("outputs/train/vit-digits/20260101-000001-bbbb/results.json")
    for content in (
        torn.read_text()[:40],
        '{"schema": 1, "verb": "train", "status": "finished", "model": "vit", "data": "d", "metrics": 3}',
        "[]",
        "",
    ):
        torn.write_text(content)
        for words in (("runs", "ls"), ("runs", "table"), ("runs", "ls", "--json")):
            run(*words)
            said = capsys.readouterr()
            assert f"skipped: `{torn}`" in said.err
            assert "Traceback" not in said.err
            assert words[1] == "table" or ("0.9" in said.out and "0.5" in said.out)
    torn.unlink()
    torn.with_name("config.yaml").write_text("a: [\n")
    run("runs", "ls")
    assert "config.yaml` is not YAML" in capsys.readouterr().err


def test_one_torn_file_stops_no_sweep(tmp_path, monkeypatch, capsys):
    from tfcli.sweeps.state import Job, State, read_state

    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("20260101-000000-aaaa", "20260101-000001-bbbb")):
        sweep = Path("outputs", "sweep", "train-vit-digits", name)
        sweep.mkdir(parents=True)
        jobs = [Job(i, f"{number}000000{i}", [f"seed={i}"]) for i in (1, 2, 3)]
        State("train", ["seed=1,2,3"], {"seed": ["1", "2", "3"]}, jobs).write(sweep)
        for job in jobs:
            job.status = "finished"
            job.write(sweep)
            (sweep / job.name).mkdir()
            Record("train", "finished", "vit", "digits", metrics={"test/accuracy": 0.5}).write(sweep / job.name)
    (sweep / jobs[0].name / "results.json").write_text('{"schema": 1,')
    (sweep / f"{jobs[1].name}.json").write_text('{"number"')
    state = read_state(sweep)
    assert [job.status for job in state.jobs] == ["failed", "finished", "finished"]
    assert "results.json` is not JSON" in str(state.jobs[0].error)
    assert f"{jobs[1].name}.json` is not JSON" in capsys.readouterr().err
    run("sweep", "table", str(sweep))
    assert "2 of 3" in capsys.readouterr().out
    (sweep / "sweep.json").write_text("{")
    run("sweep", "ls")
    said = capsys.readouterr()
    assert "sweep.json` is not JSON" in said.err
    assert "20260101-000000-aaaa" in said.out


def test_one_torn_manifest_stops_no_list_of_features(tmp_path, capsys):
    for name, text in (
        ("a", "{"),
        ("b", json.dumps({"facts": {}, "count": 1, "width": 2, "shards": {}})),
        ("c", '{"shards": {}}'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(text)
    run("features", "ls", "--cache", str(tmp_path))
    said = capsys.readouterr()
    assert said.err.count("skipped: ") == 2
    assert "1 entries" in said.out


def test_a_torn_memory_of_measurements_is_measured_again(tmp_path, monkeypatch, capsys):
    from tfcli.engine.train.numerics import cached_measurement

    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path))
    (tmp_path / "numerics.json").write_text('{"a": {"prec')
    assert cached_measurement(["facts"], lambda: {"precision": "32"}) == {"precision": "32"}
    assert "numerics.json` is not JSON" in capsys.readouterr().err
    assert cached_measurement(["facts"], lambda: {"precision": "bf16"}) == {"precision": "32"}
