"""`tfcli keys`: settings with defaults, choices and comments, of every group and option."""

from __future__ import annotations

import json

import pytest
from omegaconf import DictConfig, OmegaConf
from typer.testing import CliRunner

from tfcli.cli.app import app
from tfcli.engine.config import compose as c
from tfcli.engine.config.configs import Configs, roots
from tfcli.engine.config.keys import keys_of, search
from tfcli.errors import ConfigError

CONFIGS = Configs(roots())


def found(name: str | None = None) -> dict:
    return {key.key: key for key in keys_of(CONFIGS, name)}


def test_a_setting_has_its_default_its_choices_and_its_comment():
    key = found("model")["model.stem"]
    assert (key.default, key.choices) == ("patch", ["patch", "overlap", "conv", "hybrid"])
    assert key.comment.startswith("patch | overlap | conv")
    assert found("trainer")["trainer.val_every_epochs"].takes == "a whole number of at least 1"
    assert found("model/bert")["model.post_norm"].comment.startswith("normalise after the residual sum")
    assert found("model/gpt2_large")["model.context"].comment == "longest sequence in tokens"  # of its base
    assert found("optim/sgd")["optim.momentum"].default == 0.9
    assert found("knn")["knn.vote"].choices == ["majority", "weighted"]
    assert found("data")["data.augment.crop"].choices == ["resized", "padded", "none"]
    assert found("launcher/slurm")["launcher.cpus"].comment == "CPU cores of each job"


def test_a_long_value_does_not_widen_the_columns_of_a_pipe():
    lines = CliRunner().invoke(app, ["keys", "data/shapes"], env={"COLUMNS": ""}).stdout.splitlines()
    assert any("…" in line for line in lines)
    assert lines[0].index("comment") < 160


def test_all_keys_of_the_composed_config_are_there():
    config = c.compose("train", []).config
    leaves = {key for key in c.keys(config) if not key.rpartition(".")[2].startswith("_")}
    leaves = {key for key in leaves if not isinstance(OmegaConf.select(config, key), DictConfig)}
    assert leaves - found().keys() == set()


def test_search_looks_through_all_options():
    names = {key.key: key.options for key in search(CONFIGS, "temperature")}
    assert {"knn.temperature", "task.tau"} <= names.keys()
    assert "distill" in names["task.tau"]
    assert "model.tokenizer.kind" in {key.key for key in search(CONFIGS, "wordpiece")}  # among its choices


@pytest.mark.parametrize(
    ("name", "said"),
    [("modle", "Did you mean `model`"), ("model/vti", "Did you mean `vit`"), ("knm", "Did you mean `knn`")],
)
def test_what_is_not_there_is_named(name, said):
    with pytest.raises(ConfigError, match=said):
        keys_of(CONFIGS, name)


def test_the_verb_prints_a_table_or_json():
    run = CliRunner().invoke(app, ["keys", "optim", "--json"])
    rows = {row["key"]: row for row in json.loads(run.stdout)}
    assert rows["optim.lr"]["takes"] == "a number greater than 0"
    run = CliRunner().invoke(app, ["keys", "model", "--search", "droppath"])
    assert run.stdout == ""
    run = CliRunner().invoke(app, ["keys", "schedule"])
    assert "schedule.warmup_fraction" in run.stdout
    assert "also tfcli keys schedule/OPTION" in run.stdout
