"""Evaluate a run or public weights on the test split."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from tfcli.data.columns.checks import check_known
from tfcli.engine.loading.from_checkpoint import read_checkpoint
from tfcli.engine.runs.folder import check_writable, is_child, list_skipped, locked, logged, run_folder, write_start
from tfcli.engine.runs.lifecycle import recorded
from tfcli.engine.runs.record import Record
from tfcli.engine.runs.saved_config import config_for_this_machine, find_checkpoint, saved_tokenizer
from tfcli.engine.train.finite import check_test_results
from tfcli.engine.train.prepare import Parts, prepare, stored
from tfcli.engine.train.report import announce, keep_outcomes, new_record, warn_left_out
from tfcli.engine.train.run import evaluate
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
