"""The size files: the numbers of parameters that they state are true, and each takes other positions and attentions."""

from __future__ import annotations

import re

import pytest
import torch
from contract.families import composed
from contract.test_models import ATTENDING, FIRST, pairs, swapped

from tfcli.engine.config.build import build, plain
from tfcli.engine.config.configs import options

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
    with torch.device("meta"):
        net = build({**plain(composed(name).model), "num_classes": int(found[2])})
    assert sum(parameter.numel() for parameter in net.parameters()) == int(found[1].replace(",", ""))


def test_the_nine_published_clips_state_their_parameters() -> None:
    assert len(CLIPS) == 9


@pytest.mark.parametrize("name", CLIPS)
def test_stated_parameters_of_clip(name: str) -> None:
    found = re.search(r"([\d,]+) parameters at (\d+) px", CLIPS[name])
    assert found
    config = composed(name)
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
    model = plain(composed(name).model)
    words = int(found[2].replace(",", ""))
    assert model["tokenizer"]["vocab_size"] == words
    with torch.device("meta"):
        net = build({**model, "vocab_size": words})
    assert sum(parameter.numel() for parameter in net.parameters()) == int(found[1].replace(",", ""))


def sized(model: str, *, pos: str, attn: str) -> dict:
    """The model's node with its own sizes, of one layer in place of many."""

    def shallow(node):
        return {key: 1 if key == "depth" else shallow(v) for key, v in node.items()} if isinstance(node, dict) else node

    node = shallow(plain(composed(model).model))
    if "text" in node:
        node["text"]["vocab_size"] = node["text"]["vocab_size"] or 11
    return swapped(node, pos, attn)


@pytest.mark.parametrize("model", [model for model in ATTENDING if model not in FIRST])
def test_every_size_is_built_with_positions_and_attentions(model: str) -> None:
    """Its own numbers are all that it adds to its family: widths of heads, numbers of patches, of words."""
    for pos, attn in pairs(ATTENDING.index(model))[::2]:
        with torch.device("meta"):
            build(sized(model, pos=pos, attn=attn))
