"""What the words before the settings mean."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from tfcli.cli.app import app
from tfcli.engine.config.compose import compose, given
from tfcli.engine.config.configs import name_with_size
from tfcli.engine.runs.named import frozen_job, resolve_model

LAPTOP = "clip (laptop size; the public CLIP ViT-B/32 is clip_vit_b32)"
SAID = "clip: the public CLIP ViT-B/32 (openai/clip-vit-base-patch32); "
PUBLIC = SAID + "`tfcli train model=clip` trains one of laptop size\n"


def test_clip_says_first_which_one_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    frozen_job(["clip", "flowers"])
    assert capsys.readouterr().err == PUBLIC
    resolve_model(["clip", "cat.jpg"], [], None)
    assert capsys.readouterr().err == PUBLIC
    frozen_job(["clip_vit_b32", "flowers"])
    assert capsys.readouterr().err == ""  # the name says it
    model = compose("train", ["model=clip"]).config.model
    assert name_with_size("clip", model) == LAPTOP
    OmegaConf.update(model, "weights", "FOLDER")
    assert name_with_size("clip", model).startswith("clip (sized as its weights are; the public")
    assert name_with_size("vit", compose("train", ["model=vit"]).config.model) == "vit"
    app(["describe", "model=clip"], standalone_mode=False)
    assert capsys.readouterr().out.startswith(f"{LAPTOP} on shapes\n")


def test_an_experiments_settings_are_given_as_typed_ones_are() -> None:
    keys = given(["+model.x=1", "optim.lr=0.1"], {"experiment": "deit_384", "model": "deit"})
    assert {"model.x", "optim.lr", "data.image_size"} <= keys
    assert "data.interpolation" in keys  # of the experiment that it builds on
    assert given(["optim.lr=0.1"], {"model": "deit"}) == {"optim.lr"}
