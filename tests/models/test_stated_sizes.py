"""The parameter counts that the size files state are true."""

from __future__ import annotations

import re

import pytest
import torch

from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.engine.config.files import options

STATED = {name: text for name, text in options("model").items() if re.search(r"parameters .*with \d+ classes", text)}
WORDED = {name: text for name, text in options("model").items() if "with a vocabulary of" in text}
CLIPS = {name: text for name, text in options("model").items() if name.startswith("clip_") and " parameters " in text}


def test_every_size_file_states_its_parameters() -> None:
    assert len(STATED) == 42
    assert STATED.keys() >= {
        "deit_b16",
        "vit_ti16",
        "vit_b16",
        "vit_h14",
        "resnet18",
        "resnet152",
        "resnet20",
        "resnet110",
    }


@pytest.mark.parametrize("name", STATED)
def test_stated_parameters(name: str) -> None:
    found = re.search(r"([\d,]+) parameters (?:at 224 px )?with (\d+) classes", STATED[name])
    assert found
    config = compose("train", [f"model={name}", "data=pets"]).config.model
    config.num_classes = int(found[2])
    with torch.device("meta"):
        net = build(config)
    assert sum(parameter.numel() for parameter in net.parameters()) == int(found[1].replace(",", ""))


def test_the_nine_published_clips_state_their_parameters() -> None:
    assert len(CLIPS) == 9


@pytest.mark.parametrize("name", CLIPS)
def test_stated_parameters_of_clip(name: str) -> None:
    found = re.search(r"([\d,]+) parameters at (\d+) px", CLIPS[name])
    assert found
    config = compose("train", [f"model={name}"]).config
    with torch.device("meta"):
        net = build(config.model)
    assert sum(parameter.numel() for parameter in net.parameters()) == int(found[1].replace(",", ""))
    assert config.data.image_size == int(found[2])


def test_the_published_language_models_state_their_parameters() -> None:
    assert WORDED.keys() >= {"gpt1", "gpt2", "gpt2_medium", "gpt2_large", "gpt2_xl", "gpt3_175b"}
    assert WORDED.keys() >= {"transformer_base", "transformer_big", "rnnsearch"}


@pytest.mark.parametrize("name", WORDED)
def test_stated_parameters_of_language_models(name: str) -> None:
    found = re.search(r"([\d,]+) parameters with a vocabulary of ([\d,]+)", WORDED[name])
    assert found
    config = compose("train", [f"model={name}"]).config
    config.model.vocab_size = int(found[2].replace(",", ""))
    assert config.model.tokenizer.vocab_size == config.model.vocab_size
    with torch.device("meta"):
        net = build(config.model)
    assert sum(parameter.numel() for parameter in net.parameters()) == int(found[1].replace(",", ""))
