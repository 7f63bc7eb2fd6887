"""`runs ls/show/compare/table` over folders as runs leave them."""

from __future__ import annotations

import csv
import io
import json

import pytest
import typer
from typer.testing import CliRunner

from tfcli.cli import runs
from tfcli.engine.runs.record import Record
from tfcli.errors import RunError


@pytest.fixture
def call(tmp_path):
    """Runs `tfcli runs ...` on four made runs; returns stdout."""
    made = [
        ("vit", "digits", "1e-3", 0, 0.964),
        ("vit", "digits", "1e-3", 1, 0.958),
        ("vit", "digits", "3e-4", 0, 0.900),
        ("resnet18", "pets", "1e-3", 0, None),
    ]
    for i, (model, data, rate, seed, accuracy) in enumerate(made):
        folder = tmp_path / "train" / f"{model}-{data}" / f"20261120-23150{i}-7f3{i}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(
            f"seed: {seed}\noptim: {{lr: {float(rate)}}}\nrun: {{dir: {i}}}\ndata: {{name: {data}, seed: {seed}}}\n"
        )
        record = Record(
            verb="train", status="failed", model=model, data=data, seed=seed, error="loss became NaN at step 3"
        )
        record.overrides = [f"model={model}", f"data={data}", f"optim.lr={rate}", f"seed={seed}"]
        if accuracy is not None:
            record.status, record.error = "finished", None
            record.metrics = {"test/accuracy": accuracy, "test/loss": 1 - accuracy}
            record.intervals = {"test/accuracy": [accuracy - 0.02, accuracy + 0.02]}
            record.cost = {"seconds": 31.0}
            record.published = [{"value": 0.99, "source": "a paper", "differs": "at another size"}]
            record.baselines = {"logistic_pixels": 0.958}
        record.write(folder)
    app = typer.Typer()
    app.callback()(lambda: None)
    runs.mount(app)

    def run(*words: str) -> str:
        result = CliRunner().invoke(
            app, ["runs", *words, "--root", str(tmp_path)], catch_exceptions=False, env={"COLUMNS": ""}
        )
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_ls_lists_the_newest_first_and_filters(call):
    rows = json.loads(call("ls", "--json"))
    assert [row["run"][-4:] for row in rows] == ["7f33", "7f32", "7f31", "7f30"]
    assert [row["run"][-4:] for row in json.loads(call("ls", "--json", "--model", "vit", "--last", "1"))] == ["7f32"]
    assert [row["status"] for row in json.loads(call("ls", "--json", "--status", "failed"))] == ["failed"]
    best = json.loads(call("ls", "--json", "--sort", "test/accuracy"))
    assert [row["score"] for row in best] == [0.964, 0.958, 0.9]
    least = json.loads(call("ls", "--json", "--sort", "test/loss"))
    assert least[0]["run"].endswith("7f30")
    assert "test/accuracy" in call("ls", "--model", "vit").splitlines()[0]


def test_ls_refuses_what_there_is_not(call):
    with pytest.raises(AssertionError, match="'finish' is not one of 'finished', 'failed'"):
        call("ls", "--status", "finish")
    with pytest.raises(RunError, match="Did you mean `test/accuracy`"):
        call("ls", "--sort", "test/acuracy")


def test_show_has_intervals_and_published_figures(call):
    text = call("show", "7f30")
    assert "0.964  [0.944, 0.984]  0.958 logistic regression on pixels      0.990  a paper" in text
    assert "published differs: at another size" in text
    assert "config.yaml" in text
    document = json.loads(call("show", "7f30", "--json"))
    assert document["schema"] == 1
    assert document["config"]["seed"] == 0


def test_show_tells_why_a_run_failed(call):
    text = call("show", "resnet18-pets")
    assert "failed" in text.splitlines()[0]
    assert "loss became NaN at step 3" in text
    assert "log.txt" in text


def test_compare_shows_settings_and_differences(call):
    document = json.loads(call("compare", "7f30", "7f31", "7f32", "--json"))
    assert [row["key"] for row in document["config"]] == ["seed", "optim.lr", "data.seed"]
    accuracy = document["metrics"][0]
    assert "overlap" not in accuracy  # two intervals are no test of a difference; the paired test is
    assert accuracy["differences"][0] == pytest.approx(-0.006)
    text = call("compare", "7f30", "7f32")
    assert "-0.064" in text
    assert "overlap" not in text
    with pytest.raises(RunError, match="two or more"):
        call("compare", "7f30")


def test_table_groups_over_seeds(call):
    rows = json.loads(call("table", "--json"))
    assert [(row["n"], row["seeds"]) for row in rows] == [(2, [0, 1]), (1, [0])]
    accuracy = rows[0]["metrics"]["test/accuracy"]
    assert accuracy["mean"] == pytest.approx(0.961)
    assert accuracy["std"] == pytest.approx(0.00424, abs=1e-5)
    assert accuracy["best_run"].endswith("7f30")
    assert "0.961 ± 0.004" in call("table")
    assert call("table", "--format", "markdown").startswith("| model")
    lines = list(csv.DictReader(io.StringIO(call("table", "--format", "csv"))))
    assert float(lines[0]["test/accuracy std"]) == pytest.approx(0.00424, abs=1e-5)


def test_compare_shows_what_was_chosen_before_what_follows_from_it(call, tmp_path):
    for i, (data, width) in enumerate([("digits", 8), ("pets", 16)]):
        config = f"optim: {{lr: {i}}}\ntask: {{view: {{_target_: b{i}}}}}\ndata: {{_target_: a{i}}}\n"
        config += f"model: {{width: {width}}}\n"
        config += f"choices: {{data: {data}, model: vit}}\nattn: {{kernel: {{_target_: k{i}}}}}\n"
        leave(tmp_path, str(i), overrides=[f"data={data}", f"model.width={width}"], config=config, metrics={})
    rows = json.loads(call("compare", "20261121-000000", "20261121-000001", "--json"))["config"]
    keys = ["data", "model.width", "optim.lr", "task.view._target_", "attn.kernel._target_"]
    assert [row["key"] for row in rows] == keys


def test_a_table_has_runs_of_one_verb(call, tmp_path):
    leave(tmp_path, "1", overrides=["data.test_split=x"], config="seed: 0\n", metrics={"test/x": 1.0}, verb="evaluate")
    assert {row["verb"] for row in json.loads(call("table", "--json"))} == {"train"}
    assert "runs of `train` only; --verb evaluate shows the 1 of `evaluate`" in call("table")
    assert [row["settings"] for row in json.loads(call("table", "--verb", "evaluate", "--json"))] == [
        {"data.test_split": "x"}
    ]


def leave(root, name: str, *, overrides: list[str], config: str, metrics: dict[str, float], **facts) -> None:
    """Write a finished run's folder."""
    folder = root / "train" / "x" / f"20261121-00000{name}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    record = Record("train", "finished", "vit", "digits", overrides=overrides, metrics=metrics)
    for key, value in facts.items():
        setattr(record, key, value)
    record.write(folder)


def test_table_keeps_the_figures_of_every_kind_of_run(call, tmp_path):
    leave(tmp_path, "1", overrides=["model=bert"], config="seed: 0\na: 1\n", metrics={"test/bleu": 30.0, "val/x": 1.0})
    leave(tmp_path, "2", overrides=["model=gpt"], config="seed: 0\na: 2\n", metrics={"test/bits_per_char": 2.4})
    head = call("table").splitlines()[0]
    assert all(name in head for name in ("test/accuracy", "test/bleu", "test/bits_per_char"))
    rows = json.loads(call("table", "--json"))
    assert {name for row in rows for name in row["metrics"]} >= {"test/accuracy", "test/bleu", "test/bits_per_char"}
    assert all(row["metrics"] for row in rows)


def test_a_typed_default_is_the_default(call, tmp_path):
    metrics, config = (
        {"test/accuracy": 0.5},
        "choices: {{optim: adamw}}\noptim: {{lr: {lr}}}\nmodel: {{depth: {depth}}}\n",
    )
    leave(
        tmp_path,
        "1",
        overrides=["optim.lr=1e-3", "optim=adamw"],
        config=config.format(lr=0.001, depth=6),
        metrics=metrics,
    )
    leave(tmp_path, "2", overrides=["model.depth=3"], config=config.format(lr=0.001, depth=3), metrics=metrics)
    text = call("table", "--last", "2")
    assert "optim" not in text.splitlines()[0]
    rows = json.loads(call("table", "--last", "2", "--json"))
    assert {row["settings"]["model.depth"] for row in rows} == {3, 6}
    assert {row["settings"]["optim.lr"] for row in rows} == {0.001}


def test_missing_numbers_are_shown(call, tmp_path):
    bad = {"test/loss": float("nan"), "test/accuracy": 0.1}
    lost = {"test/loss": [0.0, float("inf")], "test/accuracy": [0.0, 0.2]}
    leave(
        tmp_path,
        "1",
        overrides=[],
        config="seed: 0\n",
        metrics=bad,
        intervals=lost,
        baselines={"chance/accuracy": float("nan")},
        cost={"seconds": float("nan"), "examples_per_second": 5.0},
    )
    assert "nan" in call("show", "20261121-000001")
    assert "20261121-000001" in call("ls")
    assert "nan" in call("compare", "20261121-000001", "7f30")
    call("table")


def test_table_filters_by_setting(call):
    assert len(json.loads(call("table", "optim.lr=3e-4", "--json"))) == 1
    assert len(json.loads(call("table", "optim.lr=0.001", "--json"))) == 1
    with pytest.raises(RunError, match="key=value"):
        call("table", "vit")
    with pytest.raises(AssertionError, match="'cvs' is not one of"):
        call("table", "--format", "cvs")
