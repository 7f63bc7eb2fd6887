"""One run, from a checked config to a record: fit, test, figures; and the same again from where it stopped."""

from __future__ import annotations

import csv
import json
import logging
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, EarlyStopping, EMAWeightAveraging

from tfcli.data.hashing import seed_for
from tfcli.data.workers import Ranks
from tfcli.engine import loggers as logs
from tfcli.engine import numerics as num
from tfcli.engine.build import build
from tfcli.engine.callbacks import AddressedRandomness, FiniteLoss, Progress, TrainLog
from tfcli.engine.checkpoints import AtomicIO, Checkpoints, clean, lower_is_better, newest, read_checkpoint
from tfcli.engine.published import published_for
from tfcli.engine.record import Record, read_config, read_metrics, read_overrides, read_record, write_atomic
from tfcli.engine.session import RUN_DIR, Stop, check_writable, is_child, locked, logged, run_folder, write_start
from tfcli.errors import ConfigError, Interrupted, RunError, TfcliError, nearest
from tfcli.probes.pixels import logistic_regression
from tfcli.tasks.protocols import Data, Horizon, Task

RESUMABLE = (
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.patience",
    "trainer.save_every_",
    "trainer.log_every_",
    "trainer.test",
    "trainer.threads",
    "logger.",
    "data.workers",
    "data.cache",
    "data.root",
    "data.download",
    "run.",
)
"""What may change when a run is resumed; everything else would make it another run."""


@dataclass
class Parts:
    """What a config was built into."""

    config: DictConfig
    choices: dict[str, str]
    overrides: list[str]
    data: Data
    task: Task
    devices: num.Devices
    numerics: num.Numerics
    horizon: Horizon
    said: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        model = self.choices["model"]
        return f"{self.config.model.name if model == 'torchvision' else model}-{self.choices['data']}"

    @property
    def params(self) -> dict[str, int]:
        counted = [(p.numel(), p.requires_grad) for p in self.task.net.parameters()]
        return {"total": sum(n for n, _ in counted), "trainable": sum(n for n, grad in counted if grad)}


def say(line: str) -> None:
    """A line on stderr, from rank 0 only."""
    if not is_child():
        print(line, file=sys.stderr)


def prepare(config: DictConfig, choices: dict[str, str], overrides: list[str]) -> Parts:
    """Find the data, build model and task, load weights, settle devices and arithmetic. Nothing is written.

    Raises:
        UserError: whatever the user has to mend first.
    """
    quiet_libraries()
    devices = num.find_devices(OmegaConf.to_container(config.trainer, resolve=True))  # type: ignore[arg-type]
    num.set_threads(devices, config.trainer.threads)
    data: Data = build(config.data)
    data.ranks = Ranks(0, devices.ranks) if not is_child() else data.ranks  # the parent chooses as its ranks will
    data.prepare()
    OmegaConf.update(config, "data.num_classes", data.num_classes)
    torch.manual_seed(seed_for(config.seed, "init"))
    net = build(config.model)
    said = list(data.notes)
    if config.model.get("weights"):
        from tfcli.weights.load import load_weights

        report = load_weights(net, str(config.model.weights), num_classes=data.num_classes)
        for name, value in report.settings.items():  # what the weights imply is part of what the run is
            OmegaConf.update(config, f"model.{name}", value)
        said += report.notes
        said += adopt_statistics(data, report.mean, report.std, overrides)
    batches = -(-data.counts["train"] // (data.batch_size * devices.ranks))
    epoch = -(-batches // config.trainer.accumulate)
    total = epoch * config.trainer.max_epochs
    horizon = Horizon(min(total, config.trainer.max_steps or total), epoch)
    task: Task = build(config.task, net=net)
    task.horizon = horizon
    task.evaluated = tuple(s for s in ("val", "test") if data.counts[s] and (s == "val" or data.watch_test))
    monitor = config.trainer.monitor
    if monitor not in task.monitors and not (monitor.startswith("val/") and "val" not in task.evaluated):
        raise ConfigError(
            f"`trainer.monitor={monitor}` is not measured.{nearest(monitor, task.monitors)} There are {', '.join(task.monitors)}."
        )
    numerics = num.settle(
        OmegaConf.to_container(config.trainer, resolve=True),  # type: ignore[arg-type]
        str(config.attn.kernel) if "${attn}" in str(OmegaConf.to_container(config.model)) else "auto",
        task,
        data.blank(min(data.batch_size, 32)),
        devices,
        steps=horizon.total,
        identity=json.dumps(OmegaConf.to_container(config.model, resolve=True), default=str, sort_keys=True),
    )
    num.apply(numerics, net)
    return Parts(config, choices, overrides, data, task, devices, numerics, horizon, said)


def adopt_statistics(data: Data, mean: Any, std: Any, overrides: list[str]) -> list[str]:
    """Normalise as the weights were trained to see, unless the user said otherwise. Returns what to say."""
    if mean is None or (tuple(mean), tuple(std)) == (data.mean, data.std):
        return []
    if any(o.startswith(("data.mean", "data.std")) for o in overrides):
        return [f"the weights were trained with mean {list(mean)}, std {list(std)}; yours are kept"]
    data.mean, data.std = tuple(mean), tuple(std)
    return [f"images are normalised as the weights were trained: mean {list(mean)}, std {list(std)}"]


def train(config: DictConfig, choices: dict[str, str], overrides: list[str]) -> tuple[Path, Record]:
    """A new run. Returns its folder and its record.

    Raises:
        TfcliError: of the kind that says the exit code; the record has been written where a folder exists.
    """
    root = Path(config.run.root)
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
            f"a resumed run keeps its config, but these would change: {'; '.join(other)}. `tfcli rerun {folder} {' '.join(overrides)}` makes a new run."
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
    with locked(folder), logged(folder):
        clean(folder / "checkpoints")
        start, passed = newest(folder / "checkpoints")
        for line in passed:
            say(line)
        os.environ[RUN_DIR] = str(folder.resolve())
        parts = prepare(config, choices, read_overrides(folder) + overrides)
        facts = read_checkpoint(start)["tfcli"]
        if facts["fingerprint"] != parts.data.fingerprint:
            raise RunError(
                f"the data are not those the run began with (fingerprint {facts['fingerprint'][:8]}, now {parts.data.fingerprint[:8]}). Give it the same `data.root`, or `tfcli rerun {folder}`."
            )
        parts.data.start_epoch, parts.data.start_batch = facts["position"]
        if not is_child():
            write_atomic(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(stored(parts))))
        return folder, _run(parts, folder, start=start)


def evaluate(parts: Parts, *, checkpoint: Path | None) -> Record:
    """Test metrics of a run's checkpoint, or of the weights that the config names. Trains nothing."""
    if checkpoint:
        parts.task.load_state_dict(read_checkpoint(checkpoint)["state_dict"])
    began = time.monotonic()
    trainer = make_trainer(parts, [], [], log=False)
    _test(parts, trainer)
    record = new_record(parts, "evaluate")
    fill_tested(record, parts, seconds=time.monotonic() - began)
    return record


def saved_config(folder: Path) -> tuple[DictConfig, dict[str, str]]:
    """The config of a run and the options it was composed from.

    Raises:
        RunError: the folder has no config.
    """
    plain = read_config(folder)
    if not plain:
        raise RunError(f"`{folder}` is no run folder: it has no config.yaml.")
    choices = plain.pop("choices")
    numerics = plain.pop("numerics")
    config = OmegaConf.create(plain)
    from tfcli.engine import validate

    validate.check(config, choices=choices, picked=set())
    # The arithmetic that `auto` found the first time is part of what the run is.
    config.trainer.precision, config.trainer.compile = numerics["precision"], numerics["compile"]
    if "attn" in config:
        config.attn.kernel = numerics["kernel"]
    return config, choices


def apply_saved(config: DictConfig, overrides: list[str]) -> dict[str, tuple[Any, Any]]:
    """Change values of a saved config. Returns the keys that changed, old value and new."""
    from tfcli.engine.compose import set_value

    changed = {}
    for text in overrides:
        key, old, new = set_value(config, text)
        if old != new:
            changed[key] = (old, new)
    return changed


def stored(parts: Parts) -> dict[str, Any]:
    """The config as it is kept: plain values, every interpolation resolved, with what `auto` came to."""
    plain: dict[str, Any] = OmegaConf.to_container(parts.config, resolve=True)  # type: ignore[assignment]
    plain["data"]["mean"], plain["data"]["std"] = list(parts.data.mean), list(parts.data.std)
    numerics = parts.numerics
    return {
        **plain,
        "choices": dict(parts.choices),
        "numerics": {"precision": numerics.precision, "kernel": numerics.kernel, "compile": numerics.compile},
    }


def _run(parts: Parts, folder: Path, *, start: Path | None) -> Record:
    """Fit, test, write. A record is left however it ends."""
    record = new_record(parts, "train")
    loggers: list[Any] = []
    images: list[Path] = []
    began = time.monotonic()
    progress = Progress()
    try:
        announce(parts, folder, resumed=start is not None)
        if not is_child():
            write_atomic(folder / "model.txt", structure(parts))
        loggers = logs.make_loggers(
            OmegaConf.to_container(parts.config.logger, resolve=True),  # type: ignore[arg-type]
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
        for name in parts.task.evaluated:
            record.metrics |= {k: v for k, v in last_values(folder).items() if k.startswith((f"{name}/", "train/"))}
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
            baselines(record, parts)
            images = figures(parts, folder)
        record.status = "finished"
    except Interrupted as error:
        record.status, record.error = "interrupted", str(error)
        raise
    except (TfcliError, RuntimeError, OSError, ValueError) as error:
        record.status, record.error = (
            "failed",
            str(error) if isinstance(error, TfcliError) else f"{type(error).__name__}: {error}",
        )
        raise explained(error, parts) from error
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
    stop = Stop()
    saver = Checkpoints(
        folder / "checkpoints",
        stop=stop,
        monitor=monitor,
        every_minutes=trainer_config.save_every_minutes,
        every_steps=trainer_config.save_every_steps,
        facts={"fingerprint": parts.data.fingerprint, "classes": parts.data.classes},
    )
    callbacks: list[Callback] = [
        AddressedRandomness(parts.config.seed),
        FiniteLoss(trainer_config.log_every_steps),
        TrainLog(trainer_config.log_every_steps),
        progress,
        saver,
    ]
    if trainer_config.ema_decay:
        callbacks.append(EMAWeightAveraging(decay=trainer_config.ema_decay))
    if trainer_config.patience is not None:
        mode = "min" if lower_is_better(monitor) < 0 else "max"
        callbacks.append(
            EarlyStopping(
                monitor,
                mode=mode,
                patience=trainer_config.patience,
                check_on_train_epoch_end=monitor.startswith("train/"),
            )
        )
    trainer = make_trainer(parts, callbacks, loggers, log=True)
    (folder / "checkpoints").mkdir(exist_ok=True)
    with stop.listening():
        trainer.fit(parts.task, datamodule=parts.data, ckpt_path=start, weights_only=True)
    if stop.signum:
        raise Interrupted(stop.signum, f"stopped after the last epoch, before the test. `tfcli resume {folder}` tests.")
    wanted = folder / "checkpoints" / ("best.ckpt" if trainer_config.test == "best" else "last.ckpt")
    found = [p for p in (wanted, folder / "checkpoints" / "last.ckpt") if p.exists()]
    return found[0] if found else None


def make_trainer(parts: Parts, callbacks: list[Callback], loggers: list[Any], *, log: bool) -> pl.Trainer:
    """Lightning's Trainer for these parts: our data order, our checkpoints, no folders of its own."""
    settings, devices = parts.config.trainer, parts.devices
    strategy: Any = devices.strategy
    if strategy == "ddp":
        from pytorch_lightning.strategies import DDPStrategy

        strategy = DDPStrategy(process_group_backend="gloo" if devices.accelerator == "cpu" else None)
    return pl.Trainer(
        accelerator=devices.accelerator,
        devices=devices.devices,
        num_nodes=devices.num_nodes,
        strategy=strategy,
        precision=parts.numerics.precision,  # type: ignore[arg-type]
        max_epochs=settings.max_epochs,
        max_steps=settings.max_steps or -1,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip or None,
        check_val_every_n_epoch=settings.val_every_epochs,
        deterministic=bool(settings.deterministic),
        callbacks=callbacks,
        logger=loggers if log else False,
        plugins=[AtomicIO()],
        use_distributed_sampler=False,
        enable_checkpointing=log,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=settings.log_every_steps,
    )


def _test(parts: Parts, trainer: pl.Trainer, checkpoint: Path | None = None) -> None:
    with quiet_evaluation():
        trainer.test(parts.task, datamodule=parts.data, ckpt_path=checkpoint, verbose=False, weights_only=True)


def new_record(parts: Parts, verb: str) -> Record:
    config = parts.config
    return Record(
        verb=verb,
        status="failed",
        model=parts.name.rpartition("-")[0],
        data=parts.choices["data"],
        task=parts.choices["task"],
        seed=config.seed,
        overrides=list(parts.overrides),
        counts=dict(parts.data.counts),
        params=parts.params,
    )


def fill_tested(record: Record, parts: Parts, *, seconds: float | None) -> None:
    """The test's figures and intervals, and what was published for the like."""
    record.metrics |= {name: value for name, (value, _) in parts.task.tested.items()}
    record.intervals |= {name: list(interval) for name, (_, interval) in parts.task.tested.items()}
    record.published = published_for(
        record.model,
        record.data,
        weights=parts.config.model.get("weights"),
        counts=record.counts,
        image_size=parts.config.data.image_size,
    )
    if seconds is not None:
        tested = parts.data.counts["test"]
        record.cost = {"seconds": seconds, "examples_per_second": tested / seconds, "peak_memory_bytes": peak_memory()}
        record.status = "finished"


def baselines(record: Record, parts: Parts) -> None:
    """A logistic regression on the pixels, where the data set asks for one."""
    if parts.data.baseline and parts.data.counts["test"]:
        record.baselines["logistic_pixels"] = logistic_regression(
            *parts.data.arrays("train"), *parts.data.arrays("test")
        )


def figures(parts: Parts, folder: Path) -> list[Path]:
    """Curves, confusion matrix and the table of classes, as PNG and CSV."""
    from tfcli.viz.confusion import confusion
    from tfcli.viz.curves import curves

    (folder / "figures").mkdir(exist_ok=True)
    made = [folder / "figures" / "curves.png"]
    curves(read_metrics(folder / "metrics.csv"), made[0], monitor=parts.config.trainer.monitor, title=parts.name)
    if parts.task.confusion is not None:
        counts = parts.task.confusion.numpy()
        made.append(folder / "figures" / "confusion.png")
        confusion(counts.tolist(), made[1], names=parts.data.classes, title=f"{parts.name}, test")
        with open(folder / "per_class.csv", "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["class", "test_images", "right", "accuracy"])
            for name, row, i in zip(parts.data.classes, counts, range(len(counts)), strict=True):
                table.writerow([name, int(row.sum()), int(row[i]), f"{row[i] / max(1, row.sum()):.4f}"])
    return made


def announce(parts: Parts, folder: Path, *, resumed: bool) -> None:
    """The run's first line, and a line for each thing that the user should know."""
    data, numerics = parts.data, parts.numerics
    arithmetic = {"32-true": "fp32", "bf16-mixed": "bf16", "16-mixed": "fp16", "64-true": "fp64"}.get(
        numerics.precision, numerics.precision
    )
    why = f" ({numerics.why})" if numerics.why else ""
    size = f"{parts.params['total'] / 1e6:,.1f} M parameters"
    model, name = parts.name.rpartition("-")[0], parts.choices["data"]
    say(
        f"{model} on {name} · {parts.choices['task']} · {size} · {parts.devices.label}, {arithmetic}{why} · {shown(folder)}"
    )
    counts = " · ".join(f"{split} {data.counts[split]:,}" for split in ("train", "val", "test"))
    say(
        f"{counts} · {len(data.classes)} classes · {parts.horizon.total:,} steps of {data.batch_size * parts.devices.ranks * parts.config.trainer.accumulate} images"
    )
    for line in parts.said:
        say(line)
    if parts.config.run.show_model:
        say(structure(parts))
    if resumed:
        say(f"goes on in epoch {data.start_epoch + 1} at batch {data.start_batch}")


def structure(parts: Parts) -> str:
    """The network as PyTorch prints it, and the parameters of each part."""
    net = parts.task.net
    lines = [str(net), ""]
    lines += [f"{sum(p.numel() for p in part.parameters()):>14,}  {name}" for name, part in net.named_children()]
    lines += [f"{parts.params['total']:>14,}  parameters, {parts.params['trainable']:,} of them trainable"]
    return "\n".join(lines) + "\n"


def shown(folder: Path) -> str:
    """A path as short as it can be said from here."""
    try:
        return str(folder.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(folder)


def last_values(folder: Path) -> dict[str, float]:
    """The last value of each metric that the run has written."""
    return {row.name: row.value for row in read_metrics(folder / "metrics.csv")}


def peak_memory() -> int:
    """Bytes: the GPU's peak where there is one, else this process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def explained(error: BaseException, parts: Parts) -> BaseException:
    """Out of memory in words that help; everything else as it is."""
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        batch = parts.data.batch_size
        return TfcliError(
            f"out of memory: {parts.name} with batches of {batch} in {parts.numerics.precision} on {parts.devices.label}. "
            f"Try `data.batch_size={max(1, batch // 2)} trainer.accumulate={2 * parts.config.trainer.accumulate}`, or a smaller model or image."
        )
    return error


@contextmanager
def quiet_evaluation() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        yield


def quiet_libraries() -> None:
    """Leave on stderr what concerns the user: our own lines."""
    for name in ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning.*")
    warnings.filterwarnings("ignore", module="lightning_fabric.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*optimizer.step.*")
