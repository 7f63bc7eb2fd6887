"""Train one run from a checked config to a record, evaluate it, and resume it where it stopped."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, EarlyStopping, EMAWeightAveraging

from tfcli.engine.config.build import plain
from tfcli.engine.loading.from_checkpoint import load_state, read_checkpoint
from tfcli.engine.runs.disk_space import check_space
from tfcli.engine.runs.folder import (
    RUN_DIR,
    check_writable,
    is_child,
    list_skipped,
    locked,
    logged,
    run_folder,
    say,
    write_resumed,
    write_start,
)
from tfcli.engine.runs.lifecycle import ActiveRun, recorded
from tfcli.engine.runs.ranks import Stage
from tfcli.engine.runs.record import Record, read_overrides, read_record
from tfcli.engine.runs.saved_config import merged, resumed_config, saved_tokenizer
from tfcli.engine.runs.terminal import quiet_evaluation
from tfcli.engine.train.callbacks import AddressedRandomness, Heartbeat, Progress, TrainLog
from tfcli.engine.train.checkpoints import Checkpoints, EpochWeights, newest_checkpoint, remove_temporary_files
from tfcli.engine.train.finite import Finite, check_test_results
from tfcli.engine.train.loggers import check_logger, finish_loggers, forget_after, make_loggers
from tfcli.engine.train.numerics import peak_memory
from tfcli.engine.train.prepare import Parts, make_trainer, prepare, stored, stretched, timeout
from tfcli.engine.train.report import (
    add_test_results,
    announce,
    explain_error,
    is_lower_better,
    last_values,
    measure_finished_run,
    new_record,
    structure,
)
from tfcli.errors import RunError
from tfcli.files import write_atomic


def train(config: DictConfig, choices: dict[str, str], overrides: list[str]) -> tuple[Path, Record]:
    """Train a new run. Returns its folder and its record.

    Raises:
        TfcliError: of the kind that says the exit code; the record has been written where a folder exists.
    """
    root = Path(config.run.root)
    check_logger(plain(config.logger))
    check_writable(Path(config.run.dir) if config.run.dir else root)
    parts = prepare(config, choices, overrides)
    if not is_child():
        _check_space(parts, Path(config.run.dir) if config.run.dir else root, there=0)
    folder = run_folder("train", parts.name, root=root, given=config.run.dir)
    with locked(folder), logged(folder):
        if not is_child():
            write_start(folder, config=stored(parts), overrides=overrides, devices=parts.devices.label)
        return folder, _run(parts, folder, start=None)


def resume(folder: Path, overrides: list[str]) -> tuple[Path, Record]:
    """Resume a run where it stopped, in its folder. A finished run is left as it is unless it is given more epochs.

    Args:
        folder: the run's.
        overrides: only what does not make it another run, for instance `trainer.max_epochs=20`.

    Raises:
        ConfigError: an override would make it another run.
        RunError: there is no checkpoint to resume from, or the data have changed.
    """
    config, choices, changed = resumed_config(folder, overrides)
    record = read_record(folder)
    # A further rank reads the config that the first one has written, with the changes in it.
    if (
        record.status == "finished"
        and not is_child()
        and not any(k.startswith(("trainer.max_", "trainer.patience")) for k in changed)
    ):
        say(f"{folder} is finished; nothing to do. `tfcli resume {folder} trainer.max_epochs=N` trains on.")
        return folder, record
    check_logger(plain(config.logger))
    with locked(folder), logged(folder):
        remove_temporary_files(folder / "checkpoints")
        start, passed = newest_checkpoint(folder / "checkpoints")
        for line in passed:
            say(line)
        if start is None:
            say("the run was stopped before its first checkpoint: it starts from the beginning")
        os.environ[RUN_DIR] = str(folder.resolve())
        weights = config.model.get("weights") if start else None
        if weights:
            config.model.weights = None  # the checkpoint has them all
        parts = prepare(config, choices, merged(read_overrides(folder), overrides), tokenizer=saved_tokenizer(folder))
        if weights:
            config.model.weights = weights
        step = _restore_position(start, parts, folder) if start else -1
        if not is_child():
            _check_space(parts, folder, there=len(list((folder / "checkpoints").glob("*.ckpt"))))
            parts.notes += stretched(parts, changed, step) if start else []
            forget_after(folder / "metrics.csv", step)
            write_resumed(folder, config=stored(parts), overrides=parts.overrides)
        return folder, _run(parts, folder, start=start, resumed=True)


def _restore_position(start: Path, parts: Parts, folder: Path) -> int:
    """Set the data to the position of a checkpoint; return its step."""
    checkpoint = read_checkpoint(start)
    facts = checkpoint["tfcli"]
    if parts.devices.strategy != "fsdp":
        load_state(parts.module, checkpoint["state_dict"], folder)  # of another model: refused before it trains
    if facts["fingerprint"] != parts.data.fingerprint:
        raise RunError(
            f"the data are not those the run began with (fingerprint {facts['fingerprint'][:8]}, "
            f"now {parts.data.fingerprint[:8]}). Give it the same `data.root`, or `tfcli rerun {folder}`."
        )
    parts.data.start_epoch, parts.data.start_batch = facts["position"]
    return checkpoint["global_step"]


def _check_space(parts: Parts, folder: Path, *, there: int) -> None:
    """Refuse a run whose checkpoints cannot fit: last, best, and the one that takes the place of either.

    Args:
        there: number of checkpoints in the folder now.
    """
    copies = 3 if parts.data.counts["val"] else 2
    check_space(folder, checkpoint_bytes=checkpoint_bytes(parts.module, parts.config), copies=max(1, copies - there))


def checkpoint_bytes(task: torch.nn.Module, config: DictConfig) -> int:
    """Estimate the size of a checkpoint: the weights, their average, and what the optimizer keeps of each."""
    weights = sum(tensor.nbytes for tensor in task.state_dict().values())
    trained = sum(parameter.nbytes for parameter in task.parameters() if parameter.requires_grad)
    moments = 2 if "betas" in config.optim else 1 if config.optim.get("momentum") else 0
    return weights * (2 if config.trainer.ema_decay else 1) + moments * trained


def evaluate(parts: Parts, active: ActiveRun, *, checkpoint: Path | None) -> None:
    """Fill a record with test metrics of a run's checkpoint, or of the weights that the config names."""
    if checkpoint:
        load_state(parts.module, read_checkpoint(checkpoint)["state_dict"], checkpoint.parents[1], parts.overrides)
    began = time.monotonic()
    _test(parts, active)
    add_test_results(active.record, parts, seconds=time.monotonic() - began, trained=checkpoint is not None)


def _run(parts: Parts, folder: Path, *, start: Path | None, resumed: bool = False) -> Record:
    """Fit, test and draw the figures; the record is written however the run ends."""
    record = new_record(parts, "train")
    speed = read_record(folder).cost.get("examples_per_second", 0.0) if resumed else 0.0  # there may be no step left
    images: list[Path] = []
    began = time.monotonic()
    of_epochs = [f"train/{name}" for name in parts.task.train_figures]
    shown = dict.fromkeys([*of_epochs, "val/loss", parts.config.trainer.monitor])
    progress = Progress(parts.data.counted, shown=list(shown))

    def complete() -> None:
        record.metrics = {**last_values(folder), **record.metrics}
        record.cost = {**record.cost, "seconds": time.monotonic() - began}

    def finish() -> None:
        progress.close()
        if not is_child():
            finish_loggers(loggers, record.metrics, images, failed=record.status != "finished")

    loggers: list[Any] = []
    with recorded(folder, record, resumable=True) as active:
        active.explain, active.complete, active.finish = (lambda error: explain_error(error, parts)), complete, finish
        announce(parts, folder, resumed=start is not None)
        list_skipped(parts.data, folder)
        if not is_child():
            write_atomic(folder / "model.txt", structure(parts))
            if parts.data.tokenizer is not None and start is None:
                parts.data.tokenizer.save(folder)
        loggers += make_loggers(
            plain(parts.config.logger),
            folder,
            name=f"{parts.name}-{folder.name[-4:]}",
            run_config=stored(parts),
            resumed=resumed,
            say=say,
        )
        best = _fit(parts, folder, loggers, progress, start, active)
        record.cost = {
            "seconds": time.monotonic() - began,
            "examples_per_second": progress.rate,
            "peak_memory_bytes": peak_memory(),
        }
        if not progress.seen:  # it was stopped after the last epoch, and is only tested now
            record.cost |= {"examples_per_second": speed}
        record.checkpoint = str(best.relative_to(folder)) if best else None
        record.metrics = {k: v for k, v in last_values(folder).items() if k.startswith(("train/", "val/"))}
        if parts.config.trainer.test != "none" and parts.data.counts["test"]:
            if best and parts.devices.strategy != "fsdp":
                parts.task.load_state_dict(read_checkpoint(best)["state_dict"])
            _test(parts, active, checkpoint=best if parts.devices.strategy == "fsdp" else None)
            add_test_results(record, parts, seconds=None)
        if not is_child():
            active.stop.doing = "while the figures were drawn"
            images += measure_finished_run(record, parts, folder)
            check_test_results(record.metrics, best)
    return record


def _fit(
    parts: Parts, folder: Path, loggers: list[Any], progress: Progress, start: Path | None, active: ActiveRun
) -> Path | None:
    """Train; return the checkpoint to test."""
    trainer_config = parts.config.trainer
    monitor = trainer_config.monitor if "val" in parts.task.evaluated else "train/loss"
    lower = is_lower_better(parts, monitor)
    saver = Checkpoints(
        folder / "checkpoints",
        stop=active.stop,
        monitor=monitor,
        lower_is_better=lower,
        every_minutes=trainer_config.save_every_minutes,
        every_steps=trainer_config.save_every_steps,
        facts={"fingerprint": parts.data.fingerprint, "classes": parts.data.classes},
    )
    finite = Finite(trainer_config.log_every_steps, kept=saver.kept)
    saver.check = finite.check_weights
    callbacks: list[Callback] = [
        AddressedRandomness(parts.config.seed),
        finite,
        TrainLog(trainer_config.log_every_steps),
        progress,
        saver,
    ]
    averaging = EpochWeights(folder / "checkpoints", keep=trainer_config.average_last)
    if trainer_config.average_last:
        callbacks.append(averaging)
    if trainer_config.ema_decay:
        callbacks.append(EMAWeightAveraging(decay=trainer_config.ema_decay))
    if trainer_config.patience is not None:
        callbacks.append(
            EarlyStopping(
                monitor,
                mode="min" if lower else "max",
                patience=trainer_config.patience,
                check_on_train_epoch_end=monitor.startswith("train/"),
            )
        )
    trainer = _trainer(parts, active, callbacks, loggers)
    (folder / "checkpoints").mkdir(exist_ok=True)
    parts.module.train()  # the model was measured in evaluation mode, and Lightning leaves modes as they are
    trainer.fit(parts.module, datamodule=parts.datamodule, ckpt_path=start, weights_only=True)
    active.stop.doing = "after the last epoch, before the test"
    active.stop.check()
    if trainer_config.average_last:
        if trainer.is_global_zero:
            averaging.average()
        trainer.strategy.barrier()  # the others test what the first has written
        if (folder / "checkpoints" / "average.ckpt").exists():
            return folder / "checkpoints" / "average.ckpt"
    wanted = folder / "checkpoints" / ("best.ckpt" if trainer_config.test == "best" else "last.ckpt")
    found = [p for p in (wanted, folder / "checkpoints" / "last.ckpt") if p.exists()]
    return found[0] if found else None


def _test(parts: Parts, active: ActiveRun, checkpoint: Path | None = None) -> None:
    trainer = _trainer(parts, active, [], None)
    active.stop.doing = "during the test"
    with quiet_evaluation():
        trainer.test(parts.module, datamodule=parts.datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True)


def _trainer(parts: Parts, active: ActiveRun, callbacks: list[Callback], loggers: list[Any] | None) -> pl.Trainer:
    """Make a Trainer; start the other ranks where this is the first; let each rank report its progress."""
    trainer = make_trainer(parts, callbacks, loggers or [], log=loggers is not None)
    devices = parts.devices
    timeout_s = timeout(parts.config)
    active.start_ranks(trainer.strategy, count=devices.devices, nodes=devices.num_nodes, timeout_s=timeout_s)
    if active.shared:
        active.shared.beat(Stage.MEETING_OF_THE_RANKS)
        trainer.callbacks.append(Heartbeat(active.shared))  # type: ignore[attr-defined]  # set by Lightning's connector
    return trainer
