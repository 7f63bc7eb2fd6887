"""`ls`, `published` and `doctor`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from tfcli.cli import doctor, ls, published
from tfcli.engine.config.configs import PACKAGED, Configs
from tfcli.errors import ConfigError


@pytest.fixture
def call():
    app = typer.Typer()
    app.callback()(lambda: None)
    for verb in (ls, published, doctor):
        verb.mount(app)

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.mark.parametrize("kind", [*Configs([PACKAGED]).groups(), "models", "searches"])
def test_every_kind_has_options_with_descriptions(call, kind):
    rows = json.loads(call("ls", kind, "--json"))
    assert rows
    assert all(row["description"] and not row["name"].startswith("_") for row in rows)


def test_ls_alone_counts_and_a_slip_names_the_nearest(call):
    counts = {row["name"]: row["count"] for row in json.loads(call("ls", "--json"))}
    assert counts["data"] > 10
    with pytest.raises(ConfigError, match="Did you mean `model`"):
        call("ls", "modles")


def test_own_configs_come_first(call, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("# @package _global_\n# My own.\nmodel: {}\n")
    rows = {
        row["name"]: row["description"]
        for row in json.loads(call("ls", "models", "--config-dir", str(tmp_path), "--json"))
    }
    assert rows["mine"] == "My own."
    assert "vit" in rows


def test_published_by_model_and_data(call):
    rows = json.loads(call("published", "vit", "pets", "--json"))
    assert {row["model"] for row in rows} == {"vit_h14", "vit_l16"}
    assert rows[0]["value"] == 0.9756
    assert json.loads(call("published", "pets", "--json"))[-1]["model"] == "resnet34"
    assert [row["value"] for row in json.loads(call("published", "vit_b16", "imagenet", "--json"))] == [
        0.829,
        0.818,
        0.81072,
    ]
    with pytest.raises(ConfigError, match="Did you mean `pets`"):
        call("published", "vit", "pet")


def test_published_needs_no_torch():
    code = (
        "import sys\nfrom tfcli.engine.runs.published import published_for\n"
        "published_for('vit', 'pets')\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=150)


def test_doctor_says_what_it_found(call, tmp_path):
    document = json.loads(call("doctor", "--json", "--root", str(tmp_path)))
    assert document["ok"]
    checks = {check["name"]: check for check in document["checks"]}
    assert {"python", "torch", "CPU", "memory", "outputs", "cache", "data root", "W&B", "git"} <= set(checks)
    assert all(check["mend"] for check in checks.values() if check["state"] == "broken")


def test_doctor_fails_where_no_run_could_start(tmp_path):
    (tmp_path / "file").write_text("")
    app = typer.Typer()
    app.callback()(lambda: None)
    doctor.mount(app)
    result = CliRunner().invoke(app, ["doctor", "--root", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert "run.root=FOLDER" in result.stdout
