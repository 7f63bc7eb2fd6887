"""One run, from a checked config to a record: fit, test, figures; and the same again from where it stopped."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, EarlyStopping, EMAWeightAveraging

from tfcli.engine import loggers as logs
from tfcli.engine.build import plain
from tfcli.engine.callbacks import AddressedRandomness, Progress, TrainLog
from tfcli.engine.checkpoints import Checkpoints, EpochWeights, clean, load_state, newest, read_checkpoint
from tfcli.engine.finite import Finite, check_tested
from tfcli.engine.outcome import (
    announce,
    explained,
    fill_tested,
    last_values,
    measure_after,
    new_record,
    peak_memory,
    structure,
)
from tfcli.engine.parts import Parts, make_trainer, prepare, quiet_evaluation
from tfcli.engine.record import Record, read_overrides, read_record
from tfcli.engine.saved import RESUMABLE, apply_saved, kept_tokenizer, merged, saved_config, stored, stretched
from tfcli.engine.session import (
    RUN_DIR,
    check_writable,
    is_child,
    locked,
    logged,
    run_folder,
    say,
    write_resumed,
    write_start,
)
from tfcli.engine.signals import Stop
from tfcli.engine.skipped import list_skipped
from tfcli.errors import ConfigError, Interrupted, RunError, TfcliError
from tfcli.files import write_atomic


def train(config: DictConfig, choices: dict[str, str], overrides: list[str]) -> tuple[Path, Record]:
    """A new run. Returns its folder and its record.

    Raises:
        TfcliError: of the kind that says the exit code; the record has been written where a folder exists.
    """
    root = Path(config.run.root)
    logs.check_logger(plain(config.logger))
    check_writable(Path(config.run.dir) if config.run.dir else root)
    parts = prepare(config, choices, overrides)
    folder = run_folder("train", parts.name, root=root, given=config.run.dir)
    with locked(folder), logged(folder):
        if not is_child():
            write_start(folder, config=stored(parts), overrides=overrides, devices=parts.devices.label)
        return folder, _run(parts, folder, start=None)


def resume(folder: Path, overrides: list[str]) -> tuple[Path, Record]:
    """Go on where a run stopped, in its folder. A finished run is left as it is unless it is given more epochs.

    Args:
        folder: the run's.
        overrides: only what does not make it another run, for instance `trainer.max_epochs=20`.

    Raises:
        ConfigError: an override would make it another run.
        RunError: there is nothing to go on from, or the data have changed.
    """
    config, choices = saved_config(folder)
    changed = apply_saved(config, overrides)
    other = [f"{k}: {old} -> {new}" for k, (old, new) in changed.items() if not k.startswith(RESUMABLE)]
    if other:
        raise ConfigError(
            f"a resumed run keeps its config, but these would change: {'; '.join(other)}. "
            f"`tfcli rerun {folder} {' '.join(overrides)}` makes a new run."
        )
    record = read_record(folder)
    # A further rank reads the config that the first one has written, with the changes in it.
    if (
        record.status == "finished"
        and not is_child()
        and not any(k.startswith(("trainer.max_", "trainer.patience")) for k in changed)
    ):
        say(f"{folder} is finished; nothing to do. `tfcli resume {folder} trainer.max_epochs=N` trains on.")
        return folder, record
    logs.check_logger(plain(config.logger))
    with locked(folder), logged(folder):
        clean(folder / "checkpoints")
        start, passed = newest(folder / "checkpoints")
        for line in passed:
            say(line)
        os.environ[RUN_DIR] = str(folder.resolve())
        weights = config.model.get("weights")
        if weights:
            config.model.weights = None  # the checkpoint has them all
        parts = prepare(config, choices, merged(read_overrides(folder), overrides), tokenizer=kept_tokenizer(folder))
        if weights:
            config.model.weights = weights
        checkpoint = read_checkpoint(start)
        facts, step = checkpoint["tfcli"], checkpoint["global_step"]
        if parts.devices.strategy != "fsdp":
            load_state(parts.task, checkpoint["state_dict"], folder)  # of another model: refused before it trains
        if facts["fingerprint"] != parts.data.fingerprint:
            raise RunError(
                f"the data are not those the run began with (fingerprint {facts['fingerprint'][:8]}, "
                f"now {parts.data.fingerprint[:8]}). Give it the same `data.root`, or `tfcli rerun {folder}`."
            )
        parts.data.start_epoch, parts.data.start_batch = facts["position"]
        if not is_child():
            parts.said += stretched(parts, changed, step)
            logs.forget_after(folder / "metrics.csv", step)
            write_resumed(folder, config=stored(parts), overrides=parts.overrides)
        return folder, _run(parts, folder, start=start)


def evaluate(parts: Parts, *, checkpoint: Path | None) -> Record:
    """Test metrics of a run's checkpoint, or of the weights that the config names. Trains nothing."""
    if checkpoint:
        load_state(parts.task, read_checkpoint(checkpoint)["state_dict"], checkpoint.parents[1])
    began = time.monotonic()
    trainer = make_trainer(parts, [], [], log=False)
    _test(parts, trainer)
    record = new_record(parts, "evaluate")
    fill_tested(record, parts, seconds=time.monotonic() - began, trained=checkpoint is not None)
    check_tested(record.metrics, None)
    return record


def _run(parts: Parts, folder: Path, *, start: Path | None) -> Record:
    """Fit, test, write. A record is left however it ends."""
    record = new_record(parts, "train")
    loggers: list[Any] = []
    images: list[Path] = []
    began = time.monotonic()
    progress = Progress(parts.data.counted, monitor=parts.config.trainer.monitor)
    try:
        announce(parts, folder, resumed=start is not None)
        list_skipped(parts.data, folder)
        if not is_child():
            write_atomic(folder / "model.txt", structure(parts))
            if parts.data.tokenizer is not None and start is None:
                parts.data.tokenizer.save(folder)
        loggers = logs.make_loggers(
            plain(parts.config.logger),
            folder,
            name=f"{parts.name}-{folder.name[-4:]}",
            run_config=stored(parts),
            resumed=start is not None,
            say=say,
        )
        best = _fit(parts, folder, loggers, progress, start)
        record.cost = {
            "seconds": time.monotonic() - began,
            "examples_per_second": progress.rate,
            "peak_memory_bytes": peak_memory(),
        }
        record.checkpoint = str(best.relative_to(folder)) if best else None
        record.metrics = {k: v for k, v in last_values(folder).items() if k.startswith(("train/", "val/"))}
        if parts.config.trainer.test != "none" and parts.data.counts["test"]:
            if best and parts.devices.strategy != "fsdp":
                parts.task.load_state_dict(read_checkpoint(best)["state_dict"])
            _test(
                parts,
                make_trainer(parts, [], [], log=False),
                checkpoint=best if parts.devices.strategy == "fsdp" else None,
            )
            fill_tested(record, parts, seconds=None)
        if not is_child():
            images = measure_after(record, parts, folder)
            check_tested(record.metrics, best)
        record.status = "finished"
    except (Interrupted, KeyboardInterrupt) as error:
        record.status, record.error = "interrupted", str(error) or f"stopped by Ctrl-C; `tfcli resume {folder}` goes on"
        raise
    except (TfcliError, RuntimeError, OSError, ValueError) as error:
        told = explained(error, parts)
        record.status = "failed"
        record.error = str(told) if isinstance(told, TfcliError) else f"{type(error).__name__}: {error}"
        if told is error:
            raise
        raise told from error
    finally:
        progress.close()
        if not is_child():
            if record.status != "finished":
                record.metrics = {**last_values(folder), **record.metrics}
                record.cost = {**record.cost, "seconds": time.monotonic() - began}
            record.write(folder)
            logs.finish(loggers, record.metrics, images, failed=record.status != "finished")
    return record


def _fit(parts: Parts, folder: Path, loggers: list[Any], progress: Progress, start: Path | None) -> Path | None:
    """Train; returns the checkpoint to test."""
    trainer_config = parts.config.trainer
    monitor = trainer_config.monitor if "val" in parts.task.evaluated else "train/loss"
    lower = monitor.partition("/")[2] in parts.task.lower_is_better
    stop = Stop()
    saver = Checkpoints(
        folder / "checkpoints",
        stop=stop,
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
    trainer = make_trainer(parts, callbacks, loggers, log=True)
    (folder / "checkpoints").mkdir(exist_ok=True)
    with stop.listening():
        trainer.fit(parts.module, datamodule=parts.datamodule, ckpt_path=start, weights_only=True)
    if stop.signum:
        raise Interrupted(stop.signum, f"stopped after the last epoch, before the test. `tfcli resume {folder}` tests.")
    if trainer_config.average_last:
        if trainer.is_global_zero:
            averaging.average()
        trainer.strategy.barrier()  # the others test what the first has written
        if (folder / "checkpoints" / "average.ckpt").exists():
            return folder / "checkpoints" / "average.ckpt"
    wanted = folder / "checkpoints" / ("best.ckpt" if trainer_config.test == "best" else "last.ckpt")
    found = [p for p in (wanted, folder / "checkpoints" / "last.ckpt") if p.exists()]
    return found[0] if found else None


def _test(parts: Parts, trainer: pl.Trainer, checkpoint: Path | None = None) -> None:
    with quiet_evaluation():
        trainer.test(parts.module, datamodule=parts.datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True)
