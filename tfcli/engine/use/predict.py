"""Predict classes for image files with a run or public weights. Imports no Lightning, so that the answer comes soon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from tfcli.data.images.decode import BadImage, decode
from tfcli.data.module import DataModule
from tfcli.engine.config.build import build, plain
from tfcli.engine.loading.from_checkpoint import load_state
from tfcli.engine.loading.load_model import Loaded, find_model
from tfcli.engine.loading.prompts import prompt_tokens
from tfcli.engine.runs.terminal import quiet_evaluation, quiet_libraries
from tfcli.engine.train.numerics import one_device
from tfcli.engine.use.public_classifier import classifier, run_of
from tfcli.errors import ConfigError, DataError
from tfcli.models.protocols import ImageTextEncoder
from tfcli.tasks.zeroshot import class_logits, encode_classes

Predictor = Callable[[dict[str, Tensor]], Tensor]
"""Function from a batch of images to the probabilities (B, K) of the classes."""


@torch.inference_mode()
def predict(
    folder: Path | None, overrides: list[str], paths: list[Path], *, top: int, config_dir: str | None = None
) -> list[dict[str, Any]]:
    """Predict classes and probabilities for image files, best first; unusable files are at the end.

    Args:
        folder: a run folder, or None for the model and weights that `overrides` name.
        overrides: settings.
        paths: images (`tfcli.data.common.entries.collect` finds those of folders).
        top: classes to give for each file.

    Raises:
        DataError: none can be used.
        RunError, ConfigError: nothing trained to predict with.
    """
    quiet_libraries()
    run = folder or run_of(overrides, config_dir)
    if run:
        found = find_model(run, overrides)
        OmegaConf.update(found.config, "data.num_classes", len(found.classes))
        loaded = found.build(lambda: found.classes)
    else:
        loaded = classifier(overrides, config_dir)
    data: DataModule = build(loaded.config.data)
    device = one_device(plain(loaded.config.trainer)).local[0]
    loaded.net.to(device)
    predictor = _predictor(loaded, data)
    rows = []
    with quiet_evaluation():
        for batch in data.files_dataloader(paths, mark_bad=True):
            probability = predictor({name: tensor.to(device) for name, tensor in batch.items()}).cpu()
            rows += ranked_rows(probability, batch["index"], paths, loaded.classes, top)
    return with_unusable(rows, paths)


def _predictor(loaded: Loaded, data: DataModule) -> Predictor:
    """Return how the model of a run or of public weights classifies: by its protocol, or as a user's own task does.

    Raises:
        ConfigError: the model has a text tower, and no classes to choose from.
    """
    net, tokens = loaded.net, None
    if loaded.tokenizer is not None:
        tokens = data.class_tokens = prompt_tokens(loaded.choices["data"], loaded.classes, loaded.tokenizer)
    if loaded.run is not None and not str(loaded.config.task._target_).startswith("tfcli."):
        return _own_task(loaded, loaded.run, data)
    if not isinstance(net, ImageTextEncoder):
        return lambda batch: net(batch["image"]).float().softmax(1)
    if tokens is None:
        raise ConfigError("the run has no classes: say what to choose from, `--labels 'a cat,a dog'`.")
    encoder, classes = net, encode_classes(net.encode_text, tokens.to(loaded.device))
    return lambda batch: class_logits(encoder, batch["image"], classes).softmax(1)


def _own_task(loaded: Loaded, run: Path, data: DataModule) -> Predictor:
    """Return the prediction of a task of the user's own, which may be another than its model's."""
    task: Any = build(loaded.config.task, net=loaded.net)
    load_state(task, loaded.state, run)
    task.setup_data(data)
    task.to(loaded.device).eval().on_predict_start()
    return lambda batch: task.predict_step(batch, 0)["probability"]


def ranked_rows(
    probability: torch.Tensor, index: torch.Tensor, paths: list[Path], classes: list[str], top: int
) -> list[dict[str, Any]]:
    """Return a row for each usable file (`index` is not negative): its best classes and their probabilities (B, K)."""
    usable = index >= 0
    index = index[usable]
    chance, best = probability[usable].topk(min(top, len(classes)), 1)
    return [
        {"file": str(paths[i]), "classes": [classes[j] for j in k], "probabilities": p}
        for i, p, k in zip(index.tolist(), chance.tolist(), best.tolist(), strict=True)
    ]


def with_unusable(rows: list[dict[str, Any]], paths: list[Path]) -> list[dict[str, Any]]:
    """Return the rows, and behind them one with `error` for each file that has none.

    Raises:
        DataError: no file can be used.
    """
    usable = {row["file"] for row in rows}
    bad: list[dict[str, Any]] = []
    for path in paths:
        if str(path) not in usable:
            try:
                decode(path)
            except BadImage as error:
                bad.append({"file": str(path), "error": error.reason})
    if not rows:
        listing = "\n".join(f"  {row['file']}: {row['error']}" for row in bad[:10])
        raise DataError(
            f"none of the {len(paths):,} files can be used:\n{listing}" if len(bad) > 1 else listing.strip()
        )
    return rows + bad
