"""Completion: candidates, their speed, and real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shells import Shell

from tfcli.cli.candidates import before_break, escape, follow, split
from tfcli.cli.completion import SCRIPTS, install
from tfcli.engine.runs.record import Record
from tfcli.errors import ConfigError

ROOT = Path(__file__).parents[2]


def words(*typed: str) -> list[str]:
    return [candidate.word for candidate in follow(list(typed[:-1]), typed[-1])]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tra", ["train"]),
        ("runs com", ["compare"]),
        ("train mod", ["model="]),
        ("train trainer.max_e", ["trainer.max_epochs="]),
        ("train pos=learn", ["pos=learned", "pos=learned2d"]),
        ("train -m pos=none,learn", ["pos=none,learned", "pos=none,learned2d"]),
        ("train pos=none,non", []),
        ("train trainer.deterministic=", ["trainer.deterministic=true", "trainer.deterministic=false"]),
        ("train model=mobilenet_v3_s", ["model=mobilenet_v3_small"]),
        ("train model.stem=", [f"model.stem={stem}" for stem in ("patch", "overlap", "conv", "hybrid")]),
        ("train data.augment.crop=p", ["data.augment.crop=padded"]),
        ("train model=gpt model.activation=r", ["model.activation=relu"]),
        ("train trainer.strategy=d", ["trainer.strategy=ddp"]),
        ("train data.augment.fl", ["data.augment.flip="]),
        ("train data.aug", ["data.augment."]),
        ("train model.pos.at", ["model.pos.at="]),
        ("train optim=sgd optim.mom", ["optim.momentum="]),
        ("train optim=adamw optim.mom", []),
        ("train see", ["seed="]),
        ("train --multir", ["--multirun"]),
        ("train launcher=s", ["launcher=slurm"]),
        ("train launcher=slurm launcher.part", ["launcher.partition="]),
        ("train launcher.j", ["launcher.jobs="]),
        ("train search=", ["search=optuna"]),
        ("sweep re", ["retry"]),
        ("sweep retry latest lau", ["launcher="]),
        ("sweep extend latest optim.weight", ["optim.weight_decay="]),
        ("train --json --js", []),
        ("runs ls --status fin", ["finished"]),
        ("runs table --format mark", ["markdown"]),
        ("ls mod", ["model"]),
        ("ablate vit", ["vit_posemb"]),
        ("ablate vit_posemb bud", ["budget="]),
        ("ablate vit_posemb budget=m", ["budget=minutes"]),
        ("completion f", ["fish"]),
        ("nothing here ", []),
    ],
)
def test_candidates(line, expected):
    assert words(*line.split(" ")) == expected


def test_group_options_have_descriptions():
    found = {c.word: c.help for c in follow(["train"], "model=v")}
    assert "Vision Transformer" in found["model=vit"]
    assert all(word.startswith("model=v") for word in found)


def test_runs_and_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs/train/vit-digits/20261120-231500-7f30"
    folder.mkdir(parents=True)
    Record(verb="train", status="finished", model="vit", data="digits").write(folder)
    (tmp_path / "my data").mkdir()
    assert words("runs", "show", "") == ["latest", "20261120-231500-7f30", "vit-digits"]
    assert words("resume", "2026") == ["20261120-231500-7f30"]
    assert words("runs", "compare", "latest", "v") == ["vit-digits"]
    assert words("export", "latest", "--to", "o") == ["outputs/"]
    assert words("runs", "show", "outputs/") == ["outputs/train/"]
    started = [word.partition("=")[2] for word in words("train", "model.weights=")]
    assert started == ["latest", "20261120-231500-7f30", "vit-digits", "my data/", "outputs/"]
    assert words("train", "model.weights=outputs/") == ["model.weights=outputs/train/"]
    assert words("train", "data.root=m") == ["data.root=my data/"]
    assert words("train", "--config-dir", "o") == ["outputs/"]
    sweep = tmp_path / "outputs/sweep/train-vit-digits/20261120-231500-68be12ba"
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_text("{}")
    assert words("sweep", "show", "") == ["latest", sweep.name]


def test_keys_come_from_the_config_that_hydra_would_compose():
    from tfcli.engine.config import configs
    from tfcli.engine.config.compose import compose, keys

    lines = ("", "data=pets trainer=ddp_cpu", "model=vit_b16 data=flowers logger=csv", "model=resnet20 data=cifar10")
    for typed in (line.split() for line in lines):
        ours = configs.compose(configs.Configs(configs.roots()), typed)
        config = compose("train", typed).config
        assert sorted(keys(config)) == sorted(_keys(ours)), typed


def test_the_config_of_probe_is_composed_as_hydra_does():
    from tfcli.engine.config import configs
    from tfcli.engine.config.compose import compose, keys

    for typed in ([], ["model=clip_vit_b32", "data=pets", "protocol=hw5"], ["model=resnet20", "protocol=dinov2"]):
        ours = configs.compose(configs.Configs(configs.roots(), "probe"), typed)
        assert sorted(keys(compose("probe", typed).config)) == sorted(_keys(ours)), typed


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["probe", "cli"], {"clip", "clip_vit_b32"}),
        (["probe", "clip", "flow"], {"flowers"}),
        (["probe", "clip", "flowers", "protocol=h"], {"protocol=hw5"}),
        (["probe", "clip", "flowers", "knn.v"], {"knn.vote="}),
        (["linear", "clip", "flowers", "linear.normalise=b"], {"linear.normalise=both"}),
        (["features", "extract", "resnet5", ""], {"flowers", "pets"}),
    ],
)
def test_candidates_of_frozen_verbs(typed, expected):
    assert expected <= set(words(*typed))


def _keys(node: dict, prefix: str = "") -> list[str]:
    found = []
    for name, child in node.items():
        found.append(f"{prefix}{name}")
        if isinstance(child, dict):
            found += _keys(child, f"{prefix}{name}.")
    return found


def test_words_of_an_unfinished_line():
    assert split("tfcli train model=v") == ["tfcli", "train", "model=v"]
    assert split("tfcli train ") == ["tfcli", "train", ""]
    assert split("tfcli train data.root=my\\ d") == ["tfcli", "train", "data.root=my d"]
    assert split("tfcli train 'data.root=my d") == ["tfcli", "train", "data.root=my d"]
    assert before_break("model=v", " =:") == "model="
    assert before_break("model=v", " ") == ""
    assert escape("my data/it's") == "my\\ data/it\\'s"


def test_an_answer_imports_nothing_heavy():
    code = (
        "import sys\n"
        "sys.argv = ['tfcli', '_complete', 'fish', '--', 'train', 'model=vit_b1']\n"
        "from tfcli.cli.app import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'hydra') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=150)
    *found, heavy = done.stdout.splitlines()
    assert [line.partition("\t")[0] for line in found] == ["model=vit_b14", "model=vit_b16"], done.stderr
    assert heavy == "[]"


@pytest.fixture
def program(tmp_path):
    """A folder for PATH with `tfcli` in it."""
    path = tmp_path / "bin" / "tfcli"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m tfcli "$@"\n')
    path.chmod(0o755)
    return path.parent


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_a_real_shell(tmp_path, program, name):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    script = tmp_path / "script"
    script.write_text(SCRIPTS[name])
    (tmp_path / "my data").mkdir()
    shell = Shell(name, script=script, path=program, home=tmp_path)
    try:
        for typed, completed in {
            "tfcli tra": "tfcli train ",
            "tfcli train mod": "tfcli train model=",
            "tfcli train pos=sinus": "tfcli train pos=sinusoidal ",
            "tfcli train -m pos=none,sinus": "tfcli train -m pos=none,sinusoidal ",
            "tfcli train model=vit trainer.max_e": "tfcli train model=vit trainer.max_epochs=",
            "tfcli train data.root=my": "tfcli train data.root=my\\ data/",
        }.items():
            assert shell.complete(typed) == completed
    finally:
        shell.close()


def test_a_real_fish(tmp_path, program):
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    script = tmp_path / "script"
    script.write_text(SCRIPTS["fish"])
    environment = {**os.environ, "PATH": f"{program}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    for typed, completed in {"tra": "train", "train mod": "model=", "train pos=sinus": "pos=sinusoidal"}.items():
        command = ["fish", "--no-config", "-c", f"source {script}; complete -C 'tfcli {typed}'"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)
        assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == [completed], done.stderr


@pytest.mark.parametrize("shell", list(SCRIPTS))
def test_install_writes_the_script_and_says_so(tmp_path, monkeypatch, shell):
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    first, *_ = install(shell)
    path = Path(first.removeprefix("wrote "))
    assert path.is_relative_to(tmp_path)
    assert path.read_text() == SCRIPTS[shell]


def test_a_new_bash_completes_without_the_package(tmp_path, monkeypatch):
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "my home"))
    monkeypatch.setattr("tfcli.cli.completion.PACKAGE", tmp_path / "not there")
    (tmp_path / "my home").mkdir()
    (tmp_path / "my home" / ".bashrc").write_text("export MINE=1")
    assert any(".bashrc" in line for line in install("bash"))
    assert not any(".bashrc" in line for line in install("bash"))  # it is there now
    done = subprocess.run(["bash", "-i", "-c", "complete -p tfcli; echo $MINE"], capture_output=True, text=True)
    assert "-F _tfcli tfcli" in done.stdout
    assert done.stdout.endswith("1\n")


def test_install_into_a_home_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="For this session only"):
        install("bash")
