"""Models by what they offer, read from their configs and sources: a new family is among them by being there."""

from __future__ import annotations

from functools import cache
from typing import Any

from omegaconf import DictConfig

from tfcli.engine.config.compose import compose
from tfcli.engine.config.configs import Configs, roots
from tfcli.engine.config.offers import columns_of, tasks_of

CONFIGS = Configs(roots())


@cache
def node(group: str, name: str) -> dict[str, Any]:
    """An option's own values, without composing a whole config."""
    return CONFIGS.mounted(group, name).get(group, {})


@cache
def composed(model: str) -> DictConfig:
    """The config that trains the model, on Pets where it classifies images. Do not change it."""
    pets = ["data=pets"] if reads_images(model) and not node("model", model).get("tokenizer") else []
    return compose("train", [f"model={model}", *pets]).config


@cache
def columns_of_sets() -> dict[str, frozenset[str]]:
    """The columns of every data set."""
    return {name: frozenset(columns_of(node("data", name))) for name in CONFIGS.options("data")}


@cache
def _columns(target: str) -> frozenset[str]:
    """Columns that the tasks need which a class of models offers."""
    return frozenset(need for needs in tasks_of({"_target_": target}, CONFIGS).values() for need in needs)


def reads_images(model: str) -> bool:
    """Whether a model trains on images, alone or with texts."""
    return "image" in _columns(node("model", model)["_target_"])


def reads_texts_alone(model: str) -> bool:
    """Whether a model trains, and never on images."""
    columns = _columns(node("model", model)["_target_"])
    return bool(columns) and "image" not in columns


def attends(model: str) -> bool:
    """Whether `attn=` swaps its attention."""
    return "${attn}" in str(node("model", model))
