"""Evaluate a run or public weights on the test split, and predict for files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf

from tfcli.data.columns.checks import check_known
from tfcli.data.images.decode import BadImage, decode
from tfcli.data.module import DataModule
from tfcli.engine.config.build import build, plain
from tfcli.engine.loading.from_checkpoint import load_state, read_checkpoint
from tfcli.engine.loading.load_model import find_model
from tfcli.engine.runs.folder import check_writable, is_child, list_skipped, locked, logged, run_folder, write_start
from tfcli.engine.runs.lifecycle import recorded
from tfcli.engine.runs.record import Record
from tfcli.engine.runs.saved_config import config_for_this_machine, find_checkpoint, saved_tokenizer
from tfcli.engine.runs.terminal import quiet_evaluation, quiet_libraries
from tfcli.engine.train import numerics
from tfcli.engine.train.finite import check_test_results
from tfcli.engine.train.prepare import (
    Parts,
    make_trainer,
    prepare,
    prompt_tokens,
    stored,
)
from tfcli.engine.train.report import announce, keep_outcomes, new_record, warn_left_out
from tfcli.engine.train.run import evaluate
from tfcli.engine.use.public_classifier import classifier, run_of
from tfcli.errors import DataError, TfcliError

NOTHING = "no figure could be measured"


def of_run(run: Path, overrides: list[str], *, which: str) -> tuple[Path, Record]:
    """Measure test figures of a run's `best` or `last` checkpoint, on the devices that are here now.

    Raises:
        RunError: there is no such checkpoint.
        DataError: the data have other classes than the run's.
    """
    checkpoint = find_checkpoint(run, which)
    config, choices = config_for_this_machine(run, overrides)
    weights, config.model.weights = config.model.get("weights"), None  # the checkpoint has them all
    parts = prepare(config, choices, overrides, tokenizer=saved_tokenizer(run))
    config.model.weights = weights  # what the run started from is part of what it is
    if {"label", "tags"} & set(config.task.needs):
        known = read_checkpoint(checkpoint)["tfcli"]["classes"]
        check_known(choices["data"], parts.data.classes, known, run=f"the run `{run}`")
    return _evaluated(parts, checkpoint)


def of_weights(config: DictConfig, choices: dict[str, str], overrides: list[str]) -> tuple[Path, Record]:
    """Measure test figures of the weights that `model.weights=` names.

    Raises:
        WeightsError: they cannot be found, or lack a part that is measured.
    """
    return _evaluated(prepare(config, choices, overrides, trains=False), None)


def _evaluated(parts: Parts, checkpoint: Path | None) -> tuple[Path, Record]:
    root = Path(parts.config.run.root)
    check_writable(root)
    if not parts.data.counts["test"]:
        raise DataError(f"data `{parts.choices['data']}` has no test split to evaluate on.")
    typed = any(text.startswith("run.dir=") for text in parts.overrides)  # else it is the folder of the run itself
    given = parts.config.run.dir if typed else None
    folder = run_folder("evaluate", parts.name, root=root, given=given)
    record = new_record(parts, "evaluate")
    record.checkpoint = str(checkpoint) if checkpoint else str(parts.config.model.weights)
    with locked(folder), logged(folder), recorded(folder, record) as active:
        if not is_child():
            write_start(folder, config=stored(parts), overrides=parts.overrides, devices=parts.devices.label)
        announce(parts, folder, resumed=False)
        list_skipped(parts.data, folder)
        evaluate(parts, active, checkpoint=checkpoint)
        if not is_child():
            with parts.task.left_out.guard("outcomes of the test"):
                keep_outcomes(parts, folder)
            warn_left_out(record, parts, folder)
        if not parts.task.test_results:
            raise TfcliError(f"{NOTHING}. {folder / 'log.txt'} has the details.")
        check_test_results(record.metrics, None)
    return folder, record


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
    config, choices, classes = loaded.config, loaded.choices, loaded.classes
    data: DataModule = build(config.data)
    task: Any = build(config.task, net=loaded.net)
    if run:
        load_state(task, loaded.state, run)
    if loaded.tokenizer is not None:
        data.class_tokens = prompt_tokens(choices["data"], classes, loaded.tokenizer)
        task.setup_data(data)
    devices = numerics.one_device(plain(config.trainer))
    parts = Parts(config, choices, overrides, data, task, devices, numerics.Numerics(), task.horizon, [])
    with quiet_evaluation():
        trainer = make_trainer(parts, [], [], log=False)
        batches = trainer.predict(task, dataloaders=[data.files_dataloader(paths, mark_bad=True)], datamodule=None)
    rows = []
    for batch in cast(list[dict[str, torch.Tensor]], batches or []):
        rows += ranked_rows(batch["probability"], batch["index"], paths, classes, top)
    return with_unusable(rows, paths)


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
