"""A finished run is finished, whatever fails of what is measured after it."""

from __future__ import annotations

import json

import pytest
from conftest import TINY

from tfcli.cli.app import app
from tfcli.errors import DataError, Interrupted
from tfcli.metrics import classification
from tfcli.metrics.left_out import LeftOut


def fails(error: Exception):
    def function(*args, **kwargs):
        raise error

    return function


def test_a_run_is_finished_without_the_figures_that_fail(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    right = classification.mean_per_class
    calls = []

    def once(confusion):  # validation measures first; then come the test's intervals, then its figures alone
        calls.append(1)
        return fails(TypeError("don't know how to coerce float and float32"))() if len(calls) == 2 else right(confusion)

    monkeypatch.setattr(classification, "mean_per_class", once)
    monkeypatch.setattr("tfcli.tasks.classify.logistic_regression", fails(DataError("a bad image")))
    monkeypatch.setattr("tfcli.viz.confusion.confusion", fails(ZeroDivisionError()))
    with pytest.raises(SystemExit) as ended:
        app(["train", *TINY, "data.limit_train=100", "trainer.max_epochs=1", "run.dir=run"])
    assert ended.value.code in (0, None)
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert record["status"] == "finished"
    assert 0 < record["metrics"]["test/accuracy"] < 1
    assert not any(name.startswith("test/") for name in record["intervals"])
    reasons = record["left_out"]
    (name,) = (name for name in reasons if name.startswith("intervals of accuracy"))
    assert reasons[name] == "TypeError: don't know how to coerce float and float32"
    assert reasons["baselines"] == "DataError: a bad image"
    assert reasons["figures/"] == "ZeroDivisionError"
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "Traceback" in log
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert "not measured: baselines (DataError: a bad image)" in out


def test_a_stop_is_no_figure_that_failed():
    with pytest.raises(Interrupted), LeftOut().guard("anything"):
        raise Interrupted(15, "stopped")
    with pytest.raises(OSError, match="full"), LeftOut().guard("anything"):
        raise OSError("disk full")
