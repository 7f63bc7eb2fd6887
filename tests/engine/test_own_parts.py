"""A task, a head and a figure of one's own: a class or function and a YAML file each, no file of the package."""

from __future__ import annotations

import json

import pytest
from conftest import TINY

from tfcli.cli.app import app
from tfcli.cli.candidates import follow
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.engine.runs.record import Record, read_metrics
from tfcli.engine.train.checkpoints import read_checkpoint
from tfcli.errors import ConfigError, RunError

TASK = '''
from statistics import fmean

from torch.nn.functional import cross_entropy

from tfcli.metrics.info import FigureInfo
from tfcli.models.protocols import Classifier
from tfcli.tasks.objective import Objective


class MeanRank(Objective):
    """Classification, measured by the rank of the right class: 1 is best."""

    net_protocol = Classifier
    main_figure = "mean_rank"
    next_command = "tfcli viz curves latest"

    def __init__(self, net, *, optim, schedule):
        super().__init__(net, optim=optim, schedule=schedule)
        self.ranks = []

    def figures(self, split):
        return {"mean_rank": FigureInfo("rank of the right class", lower_is_better=True, decimals=2)}

    def guesses(self, data):
        return {"chance/mean_rank": (data.num_classes + 1) / 2}

    def training_step(self, batch, batch_idx):
        loss = cross_entropy(self.net(batch["image"]).float(), batch["label"])
        self.add(loss * len(batch["label"]), len(batch["label"]))
        return loss

    def on_train_epoch_end(self):
        total, count = self.epoch_sums()
        self.log("train/loss", total / count, logger=False)

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        if "spare" not in batch:
            logits = self.net(batch["image"])
            right = logits.gather(1, batch["label"][:, None])
            self.ranks += (1 + (logits > right).sum(1)).tolist()

    test_step = validation_step

    def on_validation_epoch_end(self):
        self.log("val/mean_rank", fmean(self.ranks))
        self.ranks = []

    def on_test_epoch_end(self):
        mean = fmean(self.ranks)
        self.test_results = {"test/mean_rank": (mean, (mean - 0.1, mean + 0.1))}
'''
HEAD = '''
from dataclasses import dataclass
from typing import Literal

import torch

from tfcli.engine.probe.heads import Head, Result
from tfcli.probes.scores import ranked, score


@dataclass
class NearestMean(Head):
    """The class whose mean feature is nearest."""

    distance: Literal["euclidean", "manhattan"] = "euclidean"

    def __call__(self, views):
        (x, label), _, (asked, right) = views.all()
        classes = views.frozen.data.num_classes
        means = torch.stack([x[label == k].mean(0) for k in range(classes)])
        far = torch.cdist(asked, means, p={"euclidean": 2.0, "manhattan": 1.0}[self.distance])
        return [Result("nearest_mean", "nearest mean", score(ranked(-far), right, num_classes=classes), 0.0)]
'''


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def call(*words: str):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app(list(words))
        assert ended.value.code in (0, None)
        return capsys.readouterr()

    return call


def put(folder, path: str, text: str) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text, encoding="utf-8")


def test_a_task_of_ones_own_has_titles_direction_and_baseline(tmp_path, run):
    put(tmp_path, "own_task.py", TASK)
    lines = ["# Rank of the right class.", "_target_: own_task.MeanRank", "needs: [image, label]"]
    put(tmp_path, "conf/task/mean_rank.yaml", "\n".join([*lines, "optim: ${optim}", "schedule: ${schedule}", ""]))
    ended = run("train", *TINY, "task=mean_rank", "optim.lr=0.03", "trainer.max_epochs=4", "run.dir=run")
    assert "rank of the right class" in ended.out
    assert "5.50 chance" in ended.out
    assert "tfcli viz curves latest" in ended.err
    shown = json.loads(run("runs", "show", "run", "--json").out)
    assert shown["main"] == "mean_rank"
    assert shown["figures"]["mean_rank"] == {"title": "rank of the right class", "lower_is_better": True, "decimals": 2}
    row = next(line for line in run("runs", "show", "run").out.splitlines() if line.startswith("test/mean_rank"))
    assert "5.500 chance" in row
    assert "rank of the right class" in row
    assert row.endswith("lower")
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    ranks = [(row.value, row.step) for row in rows if row.name == "val/mean_rank"]
    assert len({rank for rank, _ in ranks}) > 1
    best = read_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")["global_step"]
    assert best == min(ranks)[1] + 1 < max(step for _, step in ranks)  # steps are counted from 0; not just the last
    with pytest.raises(ConfigError, match="There are val/mean_rank, train/loss"):
        app(["train", *TINY, "task=mean_rank", "trainer.monitor=val/accuracy"])


def test_a_task_of_ones_own_may_make_its_optimizer_itself(tmp_path, run):
    own = "    def configure_optimizers(self):\n        return self.optim(self.net)\n"
    put(tmp_path, "own_rate.py", f"{TASK.rstrip()}\n\n{own}")
    lines = ["# Rank of the right class.", "_target_: own_rate.MeanRank", "needs: [image, label]"]
    put(tmp_path, "conf/task/own_rate.yaml", "\n".join([*lines, "optim: ${optim}", "schedule: ${schedule}", ""]))
    run("train", *TINY, "task=own_rate", "optim.lr=0.03", "trainer.max_steps=3", "run.dir=run")
    assert json.loads(run("runs", "show", "run", "--json").out)["status"] == "finished"


def test_a_head_of_ones_own_stands_in_the_table(tmp_path, run):
    put(tmp_path, "own_head.py", HEAD)
    put(
        tmp_path,
        "conf/head/nearest_mean.yaml",
        "# Nearest mean.\n_target_: own_head.NearestMean\ndistance: euclidean\n",
    )
    small = ("pixels", "digits", "data.limit_train=200", "data.limit_test=120", "features.threads=1")
    ended = run("probe", *small, "data.image_size=8", "--heads", "nearest_mean,knn", "knn.ks=[1]", "run.dir=probe")
    assert "nearest mean" in ended.out
    shown = json.loads(run("runs", "show", "probe", "--json").out)
    assert shown["main"] == "nearest_mean/accuracy"
    assert shown["metrics"]["nearest_mean/accuracy"] > 0.8
    rows = run("runs", "show", "probe").out.splitlines()
    row = next(line for line in rows if line.startswith("nearest_mean/accuracy "))
    assert "0.100 chance" in row
    assert row.endswith("higher")
    with pytest.raises(ConfigError, match=r"`nearest_mean\.distance` must be one of euclidean, manhattan"):
        app(["probe", *small, "--heads", "nearest_mean", "nearest_mean.distance=taxi"])
    with pytest.raises(
        ConfigError, match=r"Did you mean `nearest_mean`\? There are zeroshot, .*, nearest_mean;.*head/nearest"
    ):
        app(["probe", *small, "--heads", "nearest"])
    listed = run("ls", "heads").out
    assert "nearest_mean  Nearest mean." in listed
    assert "linear        Logistic regression" in listed


@pytest.mark.parametrize(
    ("module", "body", "said"),
    [
        ("silent", "power = 1", r"head `mean`: `silent\.Mean` must be a class below .*Head` with a method `__call__"),
        (
            "empty",
            "__call__ = lambda self, views: None",
            r"head `mean`: .* must return a list of `Result`, but returned None",
        ),
    ],
)
def test_a_head_without_rows_is_named(tmp_path, monkeypatch, module, body, said):
    monkeypatch.chdir(tmp_path)
    put(tmp_path, f"{module}.py", f"from tfcli.engine.probe.heads import Head\n\nclass Mean(Head):\n    {body}\n")
    put(tmp_path, "conf/head/mean.yaml", f"_target_: {module}.Mean\n")
    small = ("pixels", "digits", "data.limit_train=40", "data.limit_test=20", "features.threads=1", "run.dir=probe")
    with pytest.raises(ConfigError, match=said):
        app(["probe", *small, "--heads", "mean"])


FIGURE = '''
from pathlib import Path
from typing import Literal

from tfcli.engine.runs.record import read_record


def margin(run: Path, path: Path, *, split: Literal["val", "test"] = "test"):
    """Write how far a run is above chance."""
    record = read_record(run)
    above = record.metrics[f"{split}/accuracy"] - record.baselines["chance/accuracy"]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"drawn")
    return {"above_chance": above}
'''


def test_a_figure_of_ones_own_is_a_command(tmp_path, run):
    put(tmp_path, "own_figure.py", FIGURE)
    put(tmp_path, "conf/viz/margin.yaml", "# How far above chance.\n_target_: own_figure.margin\nsplit: test\n")
    record = Record("train", "finished", "vit", "pets", metrics={"val/accuracy": 0.7, "test/accuracy": 0.6})
    record.baselines = {"chance/accuracy": 0.1}
    (tmp_path / "done").mkdir()
    record.write(tmp_path / "done")
    drawn = json.loads(run("viz", "margin", "done", "split=val", "--json").out)
    assert drawn == {"files": ["done/figures/margin.png"], "above_chance": pytest.approx(0.6)}
    assert "margin" in run("viz", "--help").out
    assert "margin" in [candidate.word for candidate in follow(["viz"], "mar")]
    with pytest.raises(ConfigError, match=r"`viz\.split` must be one of val, test, but is `train`"):
        app(["viz", "margin", "done", "split=train"])
    with pytest.raises(Exception, match=r"No such command 'margn'. Did you mean 'margin'\?"):
        app(["viz", "margn", "done"], standalone_mode=False)
    for needs in ("results.json", "[results.json, odd.bin]"):
        put(tmp_path, "conf/viz/margin.yaml", f"_target_: own_figure.margin\nneeds: {needs}\n")
        if "odd" not in needs:
            run("viz", "margin", "done")
    with pytest.raises(RunError, match=r"`done` has no `odd.bin`, which `tfcli viz margin` needs"):
        app(["viz", "margin", "done"])


def test_a_word_in_place_of_a_part_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = "_target_: tfcli.tasks.classify.Classify\nneeds: [image, label]\nview:"
    for view, said in (
        (" labelled", r"`task\.view` must be a node, `view: {_target_: MODULE\.CLASS}`, but is `labelled`"),
        (
            " {_target_: tfcli.data.views.labelled.LabelledImage}",
            r"`task\.view\._target_` names .* has no class `LabelledImage`\. Did you mean `LabelledImages`\?",
        ),
    ):
        put(tmp_path, "conf/task/ours.yaml", f"{task}{view}\n")
        with pytest.raises(ConfigError, match=said):
            compose("train", ["model=vit", "data=digits", "task=ours"])
    with pytest.raises(ConfigError, match="node with the `_target_` of its class, but here it is `labelled`"):
        build("labelled")
    put(tmp_path, "conf/data/masks.yaml", "defaults: [camvid, _self_]\nsource:\n  list: {train: train.txt}\n")
    with pytest.raises(ConfigError, match=r"`data\.source\.list`: ListedFiles takes no `list`\. Did you mean `lists`"):
        compose("train", ["model=vit", "data=masks", "data.columns=[image,label]"])


def test_what_an_own_class_raises_is_told_with_its_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "own_raising.py", "def net(width, mode):\n    raise RuntimeError('negative\\nand more')\n")
    with pytest.raises(ConfigError) as error:
        build({"_target_": "own_raising.net", "width": -4, "mode": "big"})
    assert str(error.value) == "`own_raising.net` cannot be built with width=-4, mode=big: negative"


def test_a_set_of_ones_own_is_named_where_data_do_not_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "ours.yaml").write_text("defaults: [easy_vqa, _self_]\nname: ours\n")
    with pytest.raises(ConfigError, match="Data that would fit: easy_vqa, ours, shapes"):
        compose("train", ["model=vilt", "task=answer", "data=digits"])
