"""One tiny run, read back in every way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import TINY, tfcli

from tfcli.engine.runs.record import read_config, read_metrics
from tfcli.errors import DataError

FILES = {
    "config.yaml",
    "overrides.yaml",
    "command.txt",
    "environment.json",
    "log.txt",
    "metrics.csv",
    "model.txt",
    "results.json",
    "per_class.csv",
}


def test_the_run_folder_is_complete(tiny_run: Path):
    assert {p.name for p in tiny_run.iterdir()} >= FILES
    assert {p.name for p in (tiny_run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    for name in ("curves.png", "confusion.png"):
        assert (tiny_run / "figures" / name).read_bytes().startswith(b"\x89PNG")


def test_results_follow_the_schema(tiny_run: Path):
    record = json.loads((tiny_run / "results.json").read_text())
    assert record["schema"] == 1
    assert (record["verb"], record["status"], record["model"], record["data"], record["task"]) == (
        "train",
        "finished",
        "vit",
        "digits",
        "classify",
    )
    assert record["counts"] == {"train": 270, "val": 30, "test": 360} or record["counts"]["test"] == 360
    assert set(record["intervals"]) == {name for name in record["metrics"] if name.startswith("test/")}
    assert record["baselines"]["logistic regression on pixels/accuracy"] > 0.85
    assert record["baselines"]["nearest neighbour of pixels/accuracy"] > 0.85
    assert record["params"]["total"] == sum(
        p.numel() for p in torch.load(tiny_run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"].values()
    )
    assert record["cost"]["seconds"] > 0
    assert record["checkpoint"] == "checkpoints/best.ckpt"


def test_the_config_is_plain_and_resolved(tiny_run: Path):
    config = read_config(tiny_run)
    assert config["model"]["num_classes"] == 10
    assert "${" not in (tiny_run / "config.yaml").read_text()
    assert config["choices"]["model"] == "vit"


def test_metrics_are_appended_by_epoch(tiny_run: Path):
    rows = read_metrics(tiny_run / "metrics.csv")
    assert {r.epoch for r in rows} == {0, 1}
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "train/loss_step"} <= {
        r.name for r in rows
    }


def test_checkpoints_hold_plain_values_only(tiny_run: Path):
    checkpoint = torch.load(tiny_run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["tfcli"]["position"] == [2, 0]
    assert len(checkpoint["tfcli"]["classes"]) == 10


def test_json_output_is_one_document_and_logs_are_elsewhere(tmp_path: Path):
    done = tfcli("train", *TINY, "trainer.max_epochs=1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert Path(tmp_path, record["run"]).is_dir() or Path(record["run"]).is_dir()
    assert (tmp_path / "outputs" / "latest" / "results.json").exists()
    assert "\x1b" not in done.stderr
    shown = tfcli("runs", "show", "latest", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "test/accuracy" in shown.stdout


@pytest.mark.slow
def test_equal_seeds_give_equal_runs_and_others_differ(tmp_path: Path, tiny_run: Path):
    first = json.loads((tiny_run / "results.json").read_text())["metrics"]
    for seed in (0, 1):
        done = tfcli("train", *TINY, "trainer.max_epochs=2", f"seed={seed}", "--json", cwd=tmp_path)
        again = json.loads(done.stdout)["metrics"]
        assert (again == first) == (seed == 0)


def test_predict_goes_on_past_a_bad_file(tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch):
    from PIL import Image

    from tfcli.cli.app import app

    for name in ("a.png", "c.jfif"):
        Image.new("L", (20, 20), 200).save(tmp_path / name, format="png" if name == "a.png" else "jpeg")
    (tmp_path / "b.jpg").write_text("no image")
    done = tfcli("predict", str(tiny_run), ".", "--json", "--top", "10", "--out", "table.csv", cwd=tmp_path)
    assert done.returncode == 1
    assert "1 of 3 files cannot be used and have no prediction:\n  b.jpg: not an image file" in done.stderr
    *rows, bad = json.loads(done.stdout)
    assert [Path(r["file"]).name for r in rows] == ["a.png", "c.jfif"]
    assert bad.keys() == {"file", "error"}
    assert sum(rows[0]["probabilities"]) == pytest.approx(1, abs=1e-4)
    assert rows[0]["probabilities"] == sorted(rows[0]["probabilities"], reverse=True)
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 21
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"b.jpg: not an image file"):
        app(["predict", str(tiny_run), "b.jpg"], standalone_mode=False)


def test_a_users_own_task_says_how_it_predicts(tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch):
    from PIL import Image

    from tfcli.engine.use.predict import predict

    (tmp_path / "backwards.py").write_text(
        "from tfcli.tasks.classify import Classify\n\n\n"
        "class Backwards(Classify):\n"
        "    def scores(self, batch):\n        return -self.net(batch['image'])\n"
    )
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "mine.yaml").write_text("_target_: backwards.Backwards\n")
    Image.new("L", (20, 20), 200).save(tmp_path / "a.png")
    shutil.copytree(tiny_run, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("tfcli.tasks.classify.Classify", "backwards.Backwards"))
    monkeypatch.chdir(tmp_path)
    (own,), (usual,) = (predict(Path(run), [], [Path("a.png")], top=10) for run in ("run", tiny_run))
    assert own["classes"] == usual["classes"][::-1]


def test_rerun_changes_what_it_is_told(tmp_path: Path, tiny_run: Path):
    done = tfcli("rerun", str(tiny_run), "pos=sinusoidal", "--cfg", "job", "--package", "pos", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Sinusoidal" in done.stdout


@pytest.mark.slow
def test_vit_reads_digits(tmp_path: Path):
    done = tfcli("train", "model=vit", "data=digits", "logger=csv", "trainer.max_epochs=25", "--json", cwd=tmp_path)
    record = json.loads(done.stdout)
    assert record["metrics"]["test/accuracy"] >= 0.93
    assert record["baselines"]["logistic regression on pixels/accuracy"] >= 0.93


@pytest.mark.slow
def test_the_last_epochs_are_averaged_and_tested(tmp_path):
    done = tfcli("train", *TINY, "trainer.max_epochs=3", "trainer.average_last=2", "run.dir=mean", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "mean" / "checkpoints"
    kept = [torch.load(p, weights_only=True) for p in sorted(folder.glob("epoch-*.pt"))]
    assert len(kept) == 2
    mean = torch.load(folder / "average.ckpt", weights_only=True)["state_dict"]
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (kept[0][name] + kept[1][name]) / 2)
    assert json.loads((tmp_path / "mean" / "results.json").read_text())["checkpoint"] == "checkpoints/average.ckpt"
