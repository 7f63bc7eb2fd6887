"""The README's W&B sweep: what W&B's own agent would call is a command of ours."""

from __future__ import annotations

import re

import wandb
import yaml
from conftest import ROOT

from tfcli.engine.config.compose import compose


def test_the_agents_command_composes():
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args  # a second to import

    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    (text,) = [block for block in blocks if "args_no_hyphens" in block]
    config = yaml.safe_load(text)
    assert config["metric"]["goal"] == "maximize"
    proposed = {
        key: {"value": spec.get("min", spec.get("values", [None])[0])} for key, spec in config["parameters"].items()
    }
    arguments = create_sweep_command_args({"args": proposed})
    words = []
    for word in create_sweep_command(config["command"]):
        name = re.fullmatch(r"\$\{(\w+)\}", word)
        words += arguments[name[1]] if name else [word]
    assert words[:2] == ["tfcli", "train"]
    assert len(words) >= 2 + len(proposed)
    composed = compose("train", words[2:]).config
    assert composed.logger.wandb is not None
    assert composed.optim.lr == proposed["optim.lr"]["value"]


def test_runs_of_a_sweep_are_a_group(tmp_path, monkeypatch):
    from tfcli.engine.train.loggers import finish_loggers, make_loggers

    monkeypatch.setenv("WANDB_RUN_GROUP", "20261125-200710-af1ccca2")  # as every job of a sweep has it
    folder = tmp_path / "001-eb02ffe7"
    folder.mkdir()
    node = {"wandb": {"mode": "offline", "project": "tfcli", "entity": None, "name": None, "group": None, "tags": []}}
    loggers = make_loggers(node, folder, name="vit-digits", run_config={}, resumed=False, say=print)
    try:
        assert wandb.run is not None
        assert wandb.run.group == "20261125-200710-af1ccca2"
    finally:
        finish_loggers(loggers, {}, [], failed=False)
