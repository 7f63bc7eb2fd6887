"""Frozen verbs as a user types them, on sets that need no download."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import tfcli

QUICK = ("features.threads=1", "features.precision=32", "data.limit_train=200", "data.limit_test=120")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("probe")


def go(*words: str, cwd: Path, code: int = 0, env: dict[str, str] | None = None):
    done = tfcli(*words, cwd=cwd, env={"TFCLI_CACHE": str(cwd / "cache"), **(env or {})})
    assert done.returncode == code, done.stderr
    return done


def test_pixels_of_digits_twice(work: Path):
    first = go("probe", "pixels", "digits", *QUICK, "data.image_size=8", "run.dir=one", cwd=work)
    assert "cache miss for train, val, test" in first.stderr
    record = json.loads((work / "one" / "results.json").read_text())
    assert record["verb"] == "probe"
    assert record["status"] == "finished"
    assert record["metrics"]["linear/accuracy"] > 0.8
    assert record["metrics"]["knn/accuracy"] > 0.8
    assert {"linear/C", "knn/best_k", "knn/k=5/accuracy", "linear/accuracy_per_class"} <= set(record["metrics"])
    best = record["metrics"]["knn/best_k"]
    assert record["metrics"]["knn/accuracy"] == record["metrics"][f"knn/k={best:.0f}/accuracy"]
    low, high = record["intervals"]["linear/accuracy"]
    assert low < record["metrics"]["linear/accuracy"] < high
    assert (work / "one" / "figures" / "linear.png").stat().st_size > 1000
    assert (work / "one" / "figures" / "knn.png").exists()
    again = go("probe", "pixels", "digits", *QUICK, "data.image_size=8", "run.dir=two", "--json", cwd=work)
    assert "cache hit (same weights, transform, split, precision)" in again.stderr
    second = json.loads(again.stdout)
    assert second["metrics"] == record["metrics"]
    assert [row["head"][:6] for row in second["table"]] == ["linear", "kNN, K"]
    assert "linear, C = " in first.stdout


@pytest.mark.slow
def test_what_is_cached_is_listed_explained_shown_and_removed(work: Path):
    words = ("pixels", "digits", *QUICK, "data.image_size=8")
    go("features", "extract", *words, cwd=work)
    rows = json.loads(go("features", "ls", *words, "--json", cwd=work).stdout)
    assert {row["split"]: row["cache"] for row in rows} == {"train": "hit", "val": "hit", "test": "hit"}
    other = json.loads(
        go("features", "ls", "pixels", "digits", *QUICK, "data.image_size=16", "--json", cwd=work).stdout
    )
    assert {row["cache"] for row in other} == {"miss"}
    assert all("data.image_size 8 -> 16" in row["why"] for row in other)
    names = [row["name"] for row in json.loads(go("features", "ls", "--json", cwd=work).stdout)]
    train = next(name for name in names if "-train-" in name)
    shown = go("features", "show", train, cwd=work).stdout
    assert "fingerprint:" in shown
    assert "sha256:" in shown
    go("features", "rm", train, cwd=work)
    assert train not in go("features", "ls", cwd=work).stdout
    assert "there is no entry" in go("features", "show", "pixels-digits-tran", cwd=work, code=2).stderr


@pytest.mark.slow
def test_one_of_our_runs_at_any_layer(work: Path, tiny_run: Path):
    done = go("probe", str(tiny_run), "digits", *QUICK, "run.dir=run", "--json", cwd=work)
    record = json.loads(done.stdout)
    assert record["metrics"]["linear/accuracy"] > 0.3
    assert "vit (run " in done.stderr
    layer = go(
        "linear", str(tiny_run), *QUICK, "features.layer=stack.blocks.0", "features.pool=mean", "--json", cwd=work
    )
    other = json.loads(layer.stdout)
    assert other["verb"] == "linear"
    assert other["data"] == "digits"
    assert set(k.partition("/")[0] for k in other["metrics"]) == {"linear"}
    anew = json.loads(go("rerun", "run", "heads=[knn]", "knn.ks=[1]", "--json", cwd=work).stdout)
    assert anew["verb"] == "probe"
    assert anew["metrics"]["knn/accuracy"] == record["metrics"]["knn/k=1/accuracy"]
    wrong = go("linear", str(tiny_run), *QUICK, "features.layer=stack.block.0", cwd=work, code=2)
    assert "Did you mean `stack.blocks.0`" in wrong.stderr


def test_shuffled_test_labels_are_at_chance_and_change_no_choice(work: Path, monkeypatch: pytest.MonkeyPatch):
    """C and K come from validation alone: test labels that mean nothing leave them as they were."""
    from tfcli.engine.config.build import build
    from tfcli.engine.probe.encoder import prepare
    from tfcli.engine.probe.views import Views
    from tfcli.engine.runs.named import frozen_job

    monkeypatch.chdir(work)
    monkeypatch.setenv("TFCLI_CACHE", str(work / "cache"))
    job, run = frozen_job(["pixels", "digits", "data.image_size=8", "features.threads=1"])
    found = {}
    for shuffled in (False, True):
        views = Views(prepare(job, run))
        x, label = views.split("test")
        if shuffled:
            views.kept["test"] = (x, label[torch.randperm(len(label), generator=torch.Generator().manual_seed(0))])
        settings = job.config.linear, job.config.knn
        found[shuffled] = [
            build(settings[0])(views)[0],
            build(settings[1])(views)[0],
        ]
        counts = views.frozen.data.counts
        seen = f"train and validation ({counts['train'] + counts['val']:,} images)"
        assert all(any(seen in note for note in result.notes) for result in found[shuffled])  # the same of both rows
    for straight, chance in zip(found[False], found[True], strict=True):
        assert straight.test.accuracy > 0.9
        assert chance.test.accuracy < 0.2
    assert found[False][0].metrics["linear/C"] == found[True][0].metrics["linear/C"]
    assert found[False][1].metrics["knn/best_k"] == found[True][1].metrics["knn/best_k"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["zeroshot", "pixels", "digits"], "zero-shot needs a text tower, and `pixels` has none"),
        (["probe", "vit", "digits"], "`model=vit` has no weights to probe"),
        (["probe", "clp", "digits"], "`clp` is neither a model nor a run. Did you mean `clip`?"),
        (["probe", "clip", "digit"], "there is no data set `digit`. Did you mean `digits`?"),
        (["probe", "clip"], "which data set?"),
        (["probe", "clip", "flowers"], "model.weights=FOLDER"),
        (["probe", "pixels", "digits", "--heads", "linear,kn"], "`heads`: there is no head `kn`. Did you mean `knn`?"),
        (["knn", "pixels", "digits", "data.limit_test=0"], "has no test images"),
        (["knn", "pixels", "digits", "knn.ks=[500]", *QUICK], "500"),
        (["linear", "pixels", "digits", "linear.normalise=maybe"], "must be auto, both or true or false"),
        (["prompts", "try", "digits", "a photo of a cat"], "exactly one {}"),
        (["prompts", "show", "digit"], "there are no prompts for `digit`. Did you mean `digits`?"),
        (["predict", "clip", "x.png", "--labels", "a cat"], "at least two texts"),
        (["probe", "pixels", "digits", "features.devices=64", "features.accelerator=cuda"], "there is no GPU here"),
    ],
)
def test_mistakes_are_answered_in_a_line(work: Path, words: list[str], said: str):
    done = go(*words, cwd=work, code=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_sweep_of_probes_is_one_table_and_a_failure_is_named(work: Path):
    sizes = ("-m", "data.image_size=8,12", "linear.C=1.0", *QUICK)
    done = go("linear", "pixels", "digits", *sizes, cwd=work)
    folder = work / done.stdout.split("sweep  ")[1].split()[0]
    rows = json.loads((folder / "table.json").read_text())["rows"]
    assert [row["data.image_size"] for row in rows] == ["8", "12"]
    assert (folder / "table.csv").read_text().startswith("data.image_size,head,accuracy,low,high")
    assert "published protocol" in (folder / "table.md").read_text()
    failed = go("linear", "pixels", "digits,flowers", "-m", "linear.C=1.0", *QUICK, cwd=work, code=4)
    assert "1 of 2 jobs failed" in failed.stdout
    assert "flowers" in failed.stdout


def test_prompts_are_shown(work: Path):
    shown = go("prompts", "show", "flowers", cwd=work).stdout
    assert "a photo of a {}, a type of flower." in shown
    assert "renamed" in shown
    facts = json.loads(go("prompts", "show", "flowers", "--set", "hw5", "--json", cwd=work).stdout)
    assert facts["templates"] == ["An image of {}, a type of flower"]
    assert len(facts["names"]) == 102
