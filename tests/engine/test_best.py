"""Which checkpoint is the best one, and how tables know."""

from __future__ import annotations

import json
from types import SimpleNamespace

import torch

from tfcli.engine.runs.over_seeds import group
from tfcli.engine.runs.record import Record, figure_info, lower_is_better, read_record
from tfcli.engine.runs.signals import Stop
from tfcli.engine.train.callbacks import monitors
from tfcli.engine.train.checkpoints import Checkpoints
from tfcli.metrics.info import FigureInfo
from tfcli.tasks.contrastive import Contrastive


def test_the_best_of_a_rank_is_the_least(tmp_path):
    task = Contrastive(torch.nn.Identity(), optim=torch.optim.SGD, schedule=lambda step: 1.0, num_classes=4)
    assert "val/image_to_text_median_rank" in monitors(task)
    figures = task.figures("val")
    lower = {name for name, info in figures.items() if info.lower_is_better}
    assert lower >= {"image_to_text_median_rank", "zeroshot_loss", "loss"}
    assert "image_to_text_r1" not in lower
    saver = Checkpoints(
        tmp_path,
        stop=Stop(lambda code, reason: None),
        monitor="val/image_to_text_median_rank",
        lower_is_better=figures["image_to_text_median_rank"].lower_is_better,
        every_minutes=5,
        every_steps=None,
        facts={},
    )
    kept = []
    for rank in (9.0, 3.0, 5.0):
        figures = {saver.monitor: torch.tensor(rank)}
        saver.improved = False
        saver.on_validation_end(SimpleNamespace(callback_metrics=figures, sanity_checking=False, global_step=1), task)
        kept.append(saver.improved)
    assert kept == [True, True, False]
    assert saver.best == 3


def test_a_record_says_which_figures_should_be_small(tmp_path):
    record = Record("train", "finished", "clip", "shapes", metrics={"val/spread": 2.0, "val/errorless": 0.5})
    record.figures = {"spread": FigureInfo("spread of ranks", lower_is_better=True)}
    record.write(tmp_path)
    read = read_record(tmp_path)
    assert lower_is_better("val/spread", [read])
    assert not lower_is_better("val/errorless", [read])
    assert figure_info("val/spread", [read]).title == "spread of ranks"
    old = Record("train", "finished", "clip", "shapes", metrics={"val/image_to_text_median_rank": 2.0, "val/loss": 1.0})
    assert [lower_is_better(name, [old]) for name in old.metrics] == [True, True]


def test_a_table_puts_the_least_rank_first(tmp_path):
    found, spread = [], {"spread": FigureInfo("spread", lower_is_better=True)}
    for name, value in (("a", 9.0), ("b", 3.0)):
        record = Record("train", "finished", name, "shapes", metrics={"val/spread": value}, figures=spread)
        found.append((tmp_path / name, record))
    _, rows = group(found, metrics=["val/spread"])
    assert [row["model"] for row in rows] == ["b", "a"]


def test_a_record_of_before_that_only_listed_its_figures_keeps_their_direction(tmp_path):
    stored = Record("train", "finished", "clip", "shapes", metrics={"val/spread": 2.0, "val/errorless": 0.5}).to_json()
    (tmp_path / "results.json").write_text(json.dumps(stored | {"lower_is_better": ["spread"]}))
    read = read_record(tmp_path)
    assert [lower_is_better(name, [read]) for name in read.metrics] == [True, False]
