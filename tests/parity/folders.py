"""Saved folders of other libraries, taken by the program with nothing typed but `model.weights=FOLDER`."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from tfcli.engine.config.build import build
from tfcli.engine.config.compose import Composition, compose
from tfcli.engine.loading.adopt import adopt_weights
from tfcli.weights.load import load_weights
from tfcli.weights.load_report import LoadReport


@cache
def _composed(verb: str, words: tuple[str, ...], config_dir: str | None) -> bytes:
    return pickle.dumps(compose(verb, list(words), config_dir))


def composed(verb: str, words: Sequence[str], config_dir: str | None = None) -> Composition:
    """Compose a config, once for all draws that have the same; a pickle is copied faster than a config."""
    return cast(Composition, pickle.loads(_composed(verb, tuple(words), config_dir)))


def opened(folder: Path, *typed: str, model: str, classes: int = 5) -> tuple[Any, list[str], LoadReport]:
    """The net that `model=MODEL model.weights=FOLDER` makes, what is said of it, and the report of its weights."""
    overrides = [f"model={model}", "data=shapes", "model.weights=FOLDER", *typed]
    config = composed("train", overrides).config
    config.model.weights = str(folder)
    keys = {text.partition("=")[0] for text in overrides}
    _, _, said = adopt_weights(config, keys)
    OmegaConf.update(config, "data.num_classes", classes)
    net = build(config.model)
    report = load_weights(net, str(folder), num_classes=classes, typed=keys)
    return net.eval(), said, report


def photographs(side: int, count: int = 2) -> Tensor:
    """Smooth images with edges, in the range of normalised photographs."""
    generator = torch.Generator().manual_seed(side)
    coarse = torch.randn(count, 3, 4, 4, generator=generator)
    return nn.functional.interpolate(coarse, size=(side, side), mode="bicubic") + 0.2 * torch.randn(
        count, 3, side, side, generator=generator
    )


def difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    assert bool(ours.isfinite().all())
    return float((ours - theirs).abs().max())


def saved(net: nn.Module, folder: Path) -> Path:
    """`save_pretrained`, without its chatter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.save_pretrained(folder)
    return folder


def quietly(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip(name)
    if name == "transformers":
        module.utils.logging.disable_progress_bar()
        module.utils.logging.set_verbosity_error()
    return module
