"""From a checked config to what a run is made of: data, model with its weights, devices, arithmetic, Trainer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy

from tfcli.data.common.counter_rng import seed_for
from tfcli.data.common.loader import BatchLoader
from tfcli.data.common.workers import Ranks
from tfcli.engine.config.build import build, plain
from tfcli.engine.config.compose import Composition
from tfcli.engine.loading.load_model import find_model
from tfcli.engine.loading.prompts import prompt_tokens
from tfcli.engine.runs.folder import is_child
from tfcli.engine.runs.ranks import preparation_s
from tfcli.engine.runs.record import flatten
from tfcli.engine.runs.terminal import quiet_libraries
from tfcli.engine.train import numerics, teacher
from tfcli.engine.train.callbacks import monitors
from tfcli.engine.train.checkpoints import AtomicIO
from tfcli.engine.train.numerics import Devices, Numerics
from tfcli.errors import ConfigError, nearest
from tfcli.tasks.protocols import Data, Horizon, Task
from tfcli.text.tokenizer import Tokenizer


class LightningData(pl.LightningDataModule):
    """Data as Lightning's Trainer takes them; those who read them without training need no Lightning."""

    allow_zero_length_dataloader_with_multiple_devices = True  # a rank may have no samples to evaluate

    def __init__(self, data: Any):
        super().__init__()
        self.data = data

    def setup(self, stage: str) -> None:
        assert self.trainer is not None
        self.data.prepare()
        self.data.ranks = Ranks(self.trainer.global_rank, self.trainer.world_size)

    def train_dataloader(self) -> Any:
        loader = self.data.train_dataloader()
        strategy = self.trainer.strategy if self.trainer is not None else None
        if not isinstance(loader, BatchLoader) or not isinstance(strategy, OneCPU):
            return loader
        strategy.finished = True
        return Finished(loader, self.data.on_after_batch_transfer)

    def val_dataloader(self) -> Any:
        return self.data.val_dataloader()

    def test_dataloader(self) -> Any:
        return self.data.test_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return self.data.on_after_batch_transfer(batch, dataloader_idx)


class Finished:
    """A loader whose batches are finished when they are read, a few at a time where they are small and in memory.

    A step displaces the code of reading from the processor's caches: a batch that is read right after another takes a
    third of the time. Without loader processes that is a tenth of a very small model's step.

    Args:
        loader: the loader.
        finish: what finishes a batch of the loader of this number (`on_after_batch_transfer`).
    """

    def __init__(self, loader: BatchLoader, finish: Callable[[Any, int], Any]):
        self.loader, self.sampler, self.finish = loader, loader.sampler, finish
        self.ahead = loader.ahead

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return self._finished(iter(self.loader))

    def _finished(self, batches: Iterator[Any]) -> Iterator[Any]:
        while some := list(islice(batches, self.ahead)):
            yield from [self.finish(batch, 0) for batch in some]


class OneCPU(SingleDeviceStrategy):
    """A single process on the CPU, where training batches can be finished when they are read: they move nowhere.

    Attributes:
        finished: whether they are, and so need not pass Lightning's hooks for batches that reach their device.
    """

    finished = False

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))

    def batch_to_device(self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0) -> Any:
        assert self.lightning_module is not None
        if self.finished and self.lightning_module.trainer.training:
            return batch
        return super().batch_to_device(batch, device, dataloader_idx)


@dataclass
class Parts:
    """The objects that a config was built into."""

    config: DictConfig
    choices: dict[str, str]
    overrides: list[str]
    data: Data
    task: Task
    devices: Devices
    numerics: Numerics
    horizon: Horizon
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        model = self.choices["model"]
        return f"{self.config.model.name if model == 'torchvision' else model}-{self.choices['data']}"

    @property
    def module(self) -> pl.LightningModule:
        """The task, as Lightning's Trainer takes it."""
        return cast(pl.LightningModule, self.task)

    @property
    def datamodule(self) -> pl.LightningDataModule:
        """The data, as Lightning's Trainer takes them."""
        return self.data if isinstance(self.data, pl.LightningDataModule) else LightningData(self.data)

    @property
    def params(self) -> dict[str, int]:
        counted = [(p.numel(), p.requires_grad) for p in self.task.net.parameters()]
        return {"total": sum(n for n, _ in counted), "trainable": sum(n for n, grad in counted if grad)}


def prepare(
    config: DictConfig,
    choices: dict[str, str],
    overrides: list[str],
    *,
    tokenizer: Path | None = None,
    trains: bool = True,
) -> Parts:
    """Find the data, build model and task, load weights, choose devices and arithmetic. Nothing is written.

    Args:
        tokenizer: the file of the run that is continued or evaluated; a new run makes or finds its own.
        trains: whether the model is to be trained; if not, no part of it may be new.

    Raises:
        UserError: whatever the user has to mend first.
    """
    quiet_libraries()
    devices = numerics.find_devices(plain(config.trainer))
    numerics.set_threads(devices, config.trainer.threads)
    job = Composition(config, overrides, choices)
    found = find_model(None, job=job, tokenizer=tokenizer, trained=bool(config.model.get("weights")))
    if config.trainer.average_last and devices.strategy == "fsdp":
        raise ConfigError("`trainer.average_last` needs whole weights, which trainer=fsdp shards: take trainer=ddp.")
    if check := getattr(get_object(config.model._target_), "check_image_size", None):
        check(config.model.image_size, config.data.image_size)
    data: Data = build(config.data)
    if config.task.get("view"):  # a task of one's own may leave it out, and is served images with labels or captions
        data.serve(build(config.task.view), config.task.needs)
    data.ranks = Ranks(0, devices.ranks) if not is_child() else data.ranks  # the parent chooses as its ranks will
    data.prepare()
    OmegaConf.update(config, "data.num_classes", data.num_classes or None)
    reads = data.view is not None and data.view.reads_text
    if reads and not config.model.get("tokenizer"):
        raise ConfigError("this model takes no text: it has no `model.tokenizer`.")
    torch.manual_seed(seed_for(config.seed, "init"))
    corpus = (lambda: data.texts("train")) if reads else None
    loaded = found.build(corpus, num_classes=data.num_classes, classes=data.classes)
    net = loaded.net.train()
    data.encode(loaded.tokenizer, longest=config.model.get("context"))
    notes = [*data.notes, *loaded.notes]
    if loaded.report is not None:
        for name, value in loaded.report.settings.items():  # what the weights imply is part of what the run is
            record_setting(config, f"model.{name}", value)
        notes += loaded.report.notes
    notes += size_notes(net, config.data.get("image_size"))
    notes += pattern_notes(net, plain(config.attn) if "attn" in config else {})
    batches = data.batches(devices.ranks)
    epoch = -(-batches // config.trainer.accumulate)
    total = epoch * config.trainer.max_epochs
    horizon = Horizon(min(total, config.trainer.max_steps or total), epoch)
    teachers = {}
    if config.task.get("teacher"):
        teachers["teacher"], line = teacher.load_teacher(config, choices["data"], data)
        notes.append(line)
    task: Task = build(config.task, net=net, **teachers)
    task.horizon = horizon
    if "caption" in config.task.needs:
        data.class_tokens = prompt_tokens(choices["data"], data.classes, cast(Tokenizer, loaded.tokenizer))
    task.setup_data(data)
    if not trains:
        loaded.refuse_untrained(unused=getattr(task, "unmeasured", ()))
    task.evaluated = tuple(s for s in ("val", "test") if data.counts[s] and (s == "val" or data.watch_test))
    measured = monitors(task)
    if config.trainer.monitor == "auto":
        config.trainer.monitor = measured[0]
    monitor = config.trainer.monitor
    if monitor not in measured and not (monitor.startswith("val/") and "val" not in task.evaluated):
        raise ConfigError(
            f"`trainer.monitor={monitor}` is not measured.{nearest(monitor, measured)} There are {', '.join(measured)}."
        )
    chosen = numerics.choose_numerics(
        plain(config.trainer),
        asked_kernel(config),
        task,
        data.blank(min(data.batch_size, 32)),
        devices,
        steps=horizon.total,
        identity=json.dumps(plain(config.model), default=str, sort_keys=True),
    )
    numerics.apply(chosen, net)
    return Parts(config, choices, overrides, data, task, devices, chosen, horizon, notes)


def record_setting(config: DictConfig, key: str, value: Any) -> None:
    """Set a value of the config, in the node that it is referred to where a part of `key` is an interpolation."""
    node, _, last = key.rpartition(".")
    OmegaConf.select(config, node)[last] = value


def size_notes(net: torch.nn.Module, image_size: int | None) -> list[str]:
    """Say of each part that reads images of another size than it was built for what becomes of its positions."""
    parts = [part for part in net.modules() if hasattr(part, "note_size")]
    notes = [cast(Any, part).note_size(image_size) for part in parts if image_size]
    return [note for note in notes if note]


def pattern_notes(net: torch.nn.Module, attn: dict[str, Any]) -> list[str]:
    """Say of each attention pattern that hides nothing that it is full attention; `attn` are its settings."""
    sizes = {f"attn.{key}": value for key, value in flatten(attn).items() if key.endswith("size")}
    parts = [part for part in net.modules() if hasattr(part, "note_patterns")]
    return list(dict.fromkeys(note for part in parts for note in cast(Any, part).note_patterns(sizes)))


def asked_kernel(config: DictConfig) -> str:
    """Return the kernel that the command asks for, or that the run began with; auto for an approximation."""
    return config.attn.kernel if isinstance(config.attn.kernel, str) else "auto"


class NoProfiler(PassThroughProfiler):
    """A profiler that measures nothing and makes no context manager for each of a step's fifty hooks."""

    nothing = nullcontext()

    def profile(self, action_name: str) -> Any:
        return self.nothing


def make_trainer(parts: Parts, callbacks: list[Callback], loggers: list[Any], *, log: bool) -> pl.Trainer:
    """Make Lightning's Trainer for these parts: our data order, our checkpoints, no folders of its own."""
    settings, devices = parts.config.trainer, parts.devices
    strategy: Any = devices.strategy
    if strategy == "auto" and devices.accelerator == "cpu":
        strategy = OneCPU()
    if strategy == "ddp":
        from pytorch_lightning.strategies import DDPStrategy

        strategy = DDPStrategy(
            process_group_backend="gloo" if devices.accelerator == "cpu" else None,
            # Later than our own watch, which names the rank that hangs.
            timeout=timedelta(seconds=timeout(parts.config) + preparation_s() + 30),
        )
    trainer = pl.Trainer(
        accelerator=devices.accelerator,
        devices=devices.devices,
        num_nodes=devices.num_nodes,
        strategy=strategy,
        precision=parts.numerics.precision,  # type: ignore[arg-type]  # a word that `numerics` knows
        max_epochs=settings.max_epochs,
        max_steps=settings.max_steps or -1,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip or None,
        check_val_every_n_epoch=settings.val_every_epochs,
        deterministic=bool(settings.deterministic),
        callbacks=callbacks,
        logger=loggers if log else False,
        plugins=[AtomicIO()],
        profiler=NoProfiler(),
        use_distributed_sampler=False,
        enable_checkpointing=log,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=settings.log_every_steps,
    )
    # Signals have one owner, `runs.signals`. Lightning's handler calls a collective wherever it interrupts.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


def timeout(config: DictConfig) -> float:
    """Return how many seconds the ranks of a run may stand still; runs of earlier versions do not say."""
    return float(config.trainer.get("timeout_s", 600))


def stored(parts: Parts) -> dict[str, Any]:
    """Return the config as it is kept: plain values, every interpolation resolved, with what `auto` came to."""
    values = plain(parts.config)
    if "mean" in values["data"]:
        values["data"]["mean"], values["data"]["std"] = list(parts.data.mean), list(parts.data.std)
    chosen = parts.numerics
    return {
        **values,
        "choices": dict(parts.choices),
        "numerics": {"precision": chosen.precision, "kernel": chosen.kernel, "compile": chosen.compile},
    }


def stretched(parts: Parts, changed: dict[str, tuple[Any, Any]], step: int) -> list[str]:
    """Say what a change of a run's length does to its schedule.

    Args:
        parts: of the run with the change.
        changed: keys with their old and new value.
        step: the optimizer step from which the run goes on.
    """
    lengths = {key: changed[key] for key in ("trainer.max_epochs", "trainer.max_steps") if key in changed}
    if not lengths:
        return []
    settings, horizon = parts.config.trainer, parts.horizon
    epochs = lengths.get("trainer.max_epochs", (settings.max_epochs,))[0]
    limit = lengths.get("trainer.max_steps", (settings.max_steps,))[0]
    total = min(horizon.epoch * epochs, limit or horizon.epoch * epochs)
    before, now = (parts.task.schedule(step, total=end, epoch=horizon.epoch) for end in (total, horizon.total))
    words = ", ".join(f"`{key}` {old} -> {new}" for key, (old, new) in lengths.items())
    line = f"{words}: the run ends after {horizon.total:,} steps in place of {total:,}"
    if abs(before - now) < 1e-9:
        return [f"{line}; the learning rate goes on as it was"]
    return [
        f"{line}; the schedule is stretched: at step {step:,} the learning rate is {now:.3g} of `optim.lr`, "
        f"where it was {before:.3g}"
    ]
