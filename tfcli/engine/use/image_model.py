"""A trained model of images that is used: loaded from a run or from public weights, with how it sees images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcli.engine.config.build import build, plain
from tfcli.engine.loading.load_model import Loaded, find_model
from tfcli.engine.runs.terminal import quiet_libraries, say
from tfcli.engine.train.numerics import one_device
from tfcli.errors import ConfigError
from tfcli.weights.load_report import HEADS


@dataclass(kw_only=True)
class LoadedImageModel(Loaded):
    """A model and the data module through which it sees files."""

    data: Any


def load_image_model(
    run: Path | None, overrides: list[str], *, words: Callable[[], list[str]] = list, config_dir: str | None = None
) -> LoadedImageModel:
    """Load the model of a run's best checkpoint, or of the weights that `overrides` name, ready to be shown images.

    Args:
        words: texts that a new vocabulary of words is made from.

    Raises:
        ConfigError: neither a run nor weights, or a model that takes no images.
        RunError: the run has no checkpoint.
    """
    quiet_libraries()
    found = find_model(run, overrides, config_dir=config_dir)
    for line in found.notes:
        say(line)
    data = found.config.data
    if "image_size" not in data:
        raise ConfigError(f"{found.choices['model']} on {found.choices['data']} takes no images.")
    if data.get("num_classes") is None:
        data.num_classes = len(found.classes) or 1  # of a head that nobody asks
    loaded = found.build(words)
    loaded.refuse_untrained(unused=HEADS)
    loaded.net.to(one_device(plain(found.config.trainer)).local[0])
    return LoadedImageModel(**vars(loaded), data=build(data))
