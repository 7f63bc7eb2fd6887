"""Old names in what was saved, and in new commands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from tfcli.engine.config import moved, targets
from tfcli.engine.config.build import build, plain
from tfcli.engine.config.compose import compose
from tfcli.engine.config.signatures import signature
from tfcli.engine.runs.record import read_config, read_overrides
from tfcli.engine.runs.saved_config import saved_config, trusted_overrides
from tfcli.errors import ConfigError
from tfcli.nn.patterns import Predicate, SlidingWindow, Windows
from tfcli.nn.places import Places

OLD = "tfcli.nn.patterns"


def old_run(folder: Path, pattern: dict, typed: list[str]) -> Path:
    """A run folder as it was written when `windows` was `local` and `sliding` was `window`."""
    values = plain(compose("train", ["model=vit", "data=digits"]).config)
    values["attn"]["pattern"] = values["model"]["attn"]["pattern"] = pattern
    values["choices"] = {"model": "vit", "data": "digits", "task": "classify", "attn": typed[0].partition("=")[2]}
    values["numerics"] = {"precision": "32", "kernel": "flex", "compile": False}
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    (folder / "overrides.yaml").write_text(yaml.safe_dump(["model=vit", "data=digits", *typed]))
    return folder


@pytest.mark.parametrize(("size", "shift"), [(3, 0), (3, 1), (4, 2), (4, 1)])
def test_a_saved_config_with_the_old_names_opens(tmp_path, size, shift):
    typed = ["attn=local", f"attn.pattern.size={size}", f"attn.pattern.shift={shift}"]
    run = old_run(tmp_path / "run", {"_target_": f"{OLD}.Local", "size": size, "shift": shift}, typed)
    config, choices = saved_config(run)
    pattern = build(config.model.attn)(8, heads=2).pattern
    assert choices["attn"] == "windows"
    assert isinstance(pattern, Windows)
    places = Places.grid(7)
    then = Predicate(lambda q, k: ((q + shift) // size == (k + shift) // size).all(-1))
    assert torch.equal(pattern.mask(places, places), then.mask(places, places))
    again = trusted_overrides(run, name="train", config_dir=None)
    assert again[-5:] == read_overrides(run)
    assert build(compose("train", again).config.model.attn)(8, heads=2).pattern == pattern


def test_a_saved_sliding_window_opens(tmp_path):
    run = old_run(tmp_path / "run", {"_target_": f"{OLD}.Window", "size": 6}, ["attn=window"])
    assert build(saved_config(run)[0].model.attn)(8, heads=2).pattern == SlidingWindow(6)
    assert read_overrides(run)[-1] == "attn=sliding"


def test_an_option_of_the_users_own_keeps_its_name(tmp_path):
    run = old_run(tmp_path / "run", {"_target_": f"{OLD}.Causal"}, ["attn=local"])
    assert read_config(run)["choices"]["attn"] == "local"
    assert read_overrides(run)[-1] == "attn=local"
    assert moved.overrides(["attn=local"], lambda group: {"full", "local"}) == ["attn=local"]


def test_settings_of_towers_and_defaults_are_translated():
    assert moved.overrides(["attn@model.text.attn=local", "model.text.attn.pattern.shift=1", "attn=window"]) == [
        "attn@model.text.attn=windows",
        "model.text.attn.pattern.shift=3",
        "attn=sliding",
    ]
    assert moved.overrides(["attn=windows", "attn.pattern.shift=1"]) == ["attn=windows", "attn.pattern.shift=1"]


@pytest.mark.parametrize("name", ["local", "window"])
def test_a_new_command_with_an_old_name_is_told_both_candidates(name):
    for word in (f"attn={name}", f"attn@model.attn={name}"):
        with pytest.raises(ConfigError) as error:
            compose("train", ["model=vit", "data=digits", word])
        assert "attn=sliding" in str(error.value)
        assert "attn=windows" in str(error.value)
        assert "\n" not in str(error.value)


def test_a_config_that_names_an_old_part_is_told_the_new_one():
    with pytest.raises(ConfigError, match=r"is now `tfcli\.nn\.patterns\.SlidingWindow`"):
        build({"_target_": f"{OLD}.Window", "size": 4})


ROOMLESS = {new: old for old, new in moved.MODULES.items()}


def renamed(node, names):
    """Return plain values in which each dotted name lies in the module that `names` gives for its own."""
    if isinstance(node, dict):
        return {key: renamed(value, names) for key, value in node.items()}
    if isinstance(node, list):
        return [renamed(value, names) for value in node]
    module, dot, name = str(node).rpartition(".")
    return f"{names[module]}.{name}" if dot and module in names else node


def saved(folder: Path, words: list[str]) -> dict:
    """Write a run folder as it was when `data` had no rooms; return the config with today's names."""
    now = plain(compose("train", words).config)
    now |= {"choices": {}, "numerics": {"precision": "32", "kernel": "exact", "compile": False}}
    then = renamed(now, ROOMLESS)
    then["data"]["_target_"] = (
        f"tfcli.data.{'images.ImageData' if 'image' in now['data']['columns'] else 'texts.TextData'}"
    )
    if "image" in now["data"]["columns"]:
        del then["task"]["view"]  # which only texts had
    assert then != now
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(then))
    (folder / "overrides.yaml").write_text(yaml.safe_dump(words))
    return now


@pytest.mark.parametrize(
    "words",
    [
        ["model=vit", "data=clevr_counts"],
        ["model=clip", "data=shapes"],
        ["model=gpt", "data=shakespeare"],
        ["model=bert", "data=squad", "task=span"],
    ],
)
def test_a_run_saved_before_data_had_rooms_opens(tmp_path, words):
    now = saved(tmp_path / "run", words)
    config = plain(saved_config(tmp_path / "run")[0])
    assert {key: config[key] for key in ("data", "task", "model")} == {
        key: now[key] for key in ("data", "task", "model")
    }
    assert build(saved_config(tmp_path / "run")[0].data).name == now["data"]["name"]


@pytest.mark.parametrize("module", moved.MODULES)
def test_a_moved_module_is_gone_and_its_new_one_is_there(module):
    package = targets.PACKAGE
    old, new = (package.joinpath(*name.split(".")[1:]) for name in (module, moved.MODULES[module]))
    assert not old.with_suffix(".py").exists()
    assert new.with_suffix(".py").is_file()


def test_a_config_that_names_a_moved_part_is_told_the_new_one():
    with pytest.raises(ConfigError, match=r"is now `tfcli\.data\.sources\.digits\.Digits`"):
        build({"_target_": "tfcli.data.digits.Digits"})


def test_questions_about_shapes_are_asked_of_the_one_source():
    saved = {"_target_": "tfcli.data.synthetic.asked.AskedShapes", "objects": 3, "questions": 2}
    now = {"_target_": "tfcli.data.synthetic.source.Shapes", "scene_objects": 3, "questions": 2}
    assert moved.values({"source": saved}) == {"source": now}


@pytest.mark.parametrize("old", moved.TARGETS)
def test_a_part_that_has_moved_is_found_in_its_new_place(old):
    new = moved.values({"part": {"_target_": old, "size": 2}})["part"]["_target_"]
    assert signature(new) is not None


def test_renamed_keys_of_our_parts_are_translated_and_others_are_left():
    saved = {"pos": {"_target_": "tfcli.nn.positions.Learned", "acts": "tokens"}, "data": {"columns": {"acts": "text"}}}
    new = moved.values(saved)
    assert new["pos"] == {"_target_": "tfcli.nn.positions.Learned", "applies_to": "tokens"}
    assert new["data"] == saved["data"]


SET = {"_target_": "tfcli.data.module.DataModule", "name": "own"}


@pytest.mark.parametrize(
    ("was", "columns"),
    [
        ({"kinds": ["image", "caption"]}, ["image", "caption"]),
        ({"kinds": ["text"], "columns": {"text": "review"}}, {"text": "review"}),
        ({"kinds": ["source", "target"], "columns": None}, {"source": None, "target": None}),
        ({"columns": ["text"]}, ["text"]),
    ],
)
def test_what_a_saved_set_gives_is_called_columns(was, columns):
    assert moved.values({"data": SET | was}) == {"data": SET | {"columns": columns}}


def test_the_old_name_of_columns_is_translated_where_it_was_saved_and_refused_where_it_is_typed(tmp_path):
    assert moved.overrides(["data.kinds=[text]"]) == ["data.columns=[text]"]
    for word in ("data.kinds=[text]", "+data.kinds=[text]"):
        with pytest.raises(ConfigError, match=r"`data.kinds` is not a setting: it is now called `data.columns`"):
            compose("train", ["model=vit", "data=digits", word])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "own.yaml").write_text("# own\ndefaults: [digits, _self_]\nkinds: [image, label]\n")
    with pytest.raises(ConfigError, match=r"it is now called `data\.columns`"):
        compose("train", ["model=vit", "data=own"], str(tmp_path))
