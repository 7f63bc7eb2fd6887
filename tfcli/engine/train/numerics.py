"""Choose devices, precision, attention kernel, memory layout and compilation of a run.

`auto` is settled here once, said in the run's first line and kept with the run, so that it resumes in the same
arithmetic. On a CPU bf16 is anything from half to four times as fast as fp32, depending on the model and the chip, so
it is measured.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tfcli.engine.runs.record import read_json
from tfcli.engine.runs.terminal import say
from tfcli.errors import ConfigError, RunError
from tfcli.files import alone, cache_root, write_atomic
from tfcli.nn.attention import MultiHead, set_kernel
from tfcli.nn.attention import best_kernel as best_of_pattern
from tfcli.tasks.protocols import Task

NUMERICS_VARIABLE = "TFCLI_NUMERICS"
"""The parent's choice, for its further ranks: all must compute alike."""
MARGIN = 1.1  # a variant must be this much faster than fp32 to be taken


@dataclass
class Devices:
    """Devices as Lightning's Trainer takes them."""

    accelerator: str
    devices: int
    strategy: str
    num_nodes: int
    label: str

    @property
    def ranks(self) -> int:
        return self.devices * self.num_nodes

    @property
    def local(self) -> list[torch.device]:
        """Return the devices of this machine, as torch names them."""
        kind = "cuda" if self.accelerator in ("gpu", "cuda") else self.accelerator
        return [torch.device(kind, i) if kind == "cuda" else torch.device(kind) for i in range(self.devices)]


@dataclass
class Numerics:
    """Arithmetic of a run: Lightning's precision word, an attention kernel, channels-last or not, compiled or not."""

    precision: str = "32-true"
    kernel: str = "exact"
    channels_last: bool = False
    compile: bool = False
    why: str = ""


PRECISIONS = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed"}


def find_devices(trainer: dict[str, Any]) -> Devices:
    """Return the devices that `trainer` asks for, checked against those that are there.

    Raises:
        ConfigError: they are not; says what is there and what to type.
    """
    gpus, cores = torch.cuda.device_count(), os.cpu_count() or 1
    if not gpus:  # Lightning sets 1, with which each step of AdamW searches the disk for NVIDIA's library (0.3 ms)
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    asked, accelerator, strategy = trainer["devices"], trainer["accelerator"], trainer["strategy"]
    have = f"{gpus} GPU{'s' if gpus != 1 else ''} and {cores} CPU cores"
    if accelerator in ("gpu", "cuda") and not gpus:
        raise ConfigError(
            f"`trainer.accelerator={accelerator}`: there is no GPU here, only {cores} CPU cores. "
            "`trainer=ddp_cpu` runs data-parallel on them, `trainer=default` on one process."
        )
    if accelerator == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"`trainer.accelerator=mps`: this machine has no Apple GPU; it has {have}.")
    if accelerator == "auto":
        accelerator = "cuda" if gpus else "mps" if torch.backends.mps.is_available() else "cpu"
    on_gpu = accelerator in ("gpu", "cuda")
    count = (gpus if on_gpu else 1) if asked == "auto" else asked
    if on_gpu and count > gpus:
        raise ConfigError(
            f"`trainer.devices={count}`: there {'is' if gpus == 1 else 'are'} {have}. "
            f"Use `trainer.devices={gpus}` or `auto`."
        )
    most = max(2, cores)  # two can be tried anywhere
    if not on_gpu and count > most:
        raise ConfigError(f"`trainer.devices={count}`: there are {have}. Use at most `trainer.devices={most}`.")
    if not on_gpu and count > 1 and strategy == "auto":
        raise ConfigError(
            f"`trainer.devices={count}`: there is no GPU here, only {cores} CPU cores. "
            f"`trainer=ddp_cpu trainer.devices={count}` runs {count} processes on the CPU."
        )
    if strategy == "auto":
        strategy = "ddp" if count * trainer["num_nodes"] > 1 else "auto"
    if strategy == "fsdp" and not on_gpu:
        raise ConfigError(f"`trainer=fsdp` needs GPUs; there are {have}. `trainer=ddp_cpu` runs on the CPU.")
    name = torch.cuda.get_device_name(0) if on_gpu else accelerator
    label = name if count * trainer["num_nodes"] == 1 else f"{count * trainer['num_nodes']} x {name}, {strategy}"
    return Devices(accelerator, count, strategy, trainer["num_nodes"], label)


def set_threads(devices: Devices, asked: int | None) -> None:
    """Share the CPU's cores among the processes of this machine; `OMP_NUM_THREADS` says what each may take."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, cores // devices.devices if devices.accelerator == "cpu" else cores)
    torch.set_num_threads(asked or (int(given) if given.isdigit() and int(given) else share))


def peak_memory() -> int:
    """Return the peak memory in bytes: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def one_device(trainer: dict[str, Any]) -> Devices:
    """Find the one device that a single process takes, and set the number of its threads."""
    devices = find_devices({**trainer, "devices": 1, "strategy": "auto"})
    set_threads(devices, None)
    return devices


def choose_numerics(
    trainer: dict[str, Any],
    kernel: str,
    task: Task,
    batch: dict[str, Tensor],
    devices: Devices,
    *,
    steps: int,
    identity: str,
) -> Numerics:
    """Settle each setting that is `auto`; the others stay as asked.

    Args:
        trainer: the trainer node.
        kernel: `attn.kernel`.
        task: with its model; not changed.
        batch: a batch to measure on.
        devices: where it will run.
        steps: of the whole run.
        identity: of the model's config; a measurement is kept for it in the user's cache folder, so that the same
            command computes in the same arithmetic tomorrow.
    """
    if NUMERICS_VARIABLE in os.environ and int(os.environ.get("LOCAL_RANK", 0)) > 0:
        return Numerics(**json.loads(os.environ[NUMERICS_VARIABLE]))
    precision = PRECISIONS.get(str(trainer["precision"]), str(trainer["precision"]))
    on_cpu = devices.accelerator == "cpu"
    parts = list(task.net.modules())
    attention = [m for m in parts if isinstance(m, MultiHead)]
    convolves = not attention and any(isinstance(m, nn.Conv2d) for m in parts)
    if precision == "auto" and not on_cpu:
        bf16 = devices.accelerator != "mps" and torch.cuda.is_bf16_supported()
        chosen = Numerics("bf16-mixed" if bf16 else "32-true", best_kernel("", attention), convolves, why="")
    elif precision == "auto" and not _has_launcher():
        chosen = _measured(task, batch, attention, convolves, identity)
    else:
        # What was asked for is never left to a clock: equal commands compute alike.
        chosen = Numerics("32-true" if precision == "auto" else precision, "exact", convolves and not on_cpu)
        chosen.kernel = best_kernel(chosen.precision if on_cpu else "", attention)
    if kernel != "auto":
        chosen.kernel = kernel
    asked = str(trainer["compile"]).lower()
    chosen.compile = asked == "true" or (asked == "auto" and devices.accelerator in ("gpu", "cuda") and steps >= 2000)
    os.environ[NUMERICS_VARIABLE] = json.dumps(asdict(chosen))
    return chosen


def apply(numerics: Numerics, net: nn.Module) -> None:
    """Prepare a model for the settled arithmetic."""
    set_kernel(net, numerics.kernel)
    if numerics.channels_last:
        net.to(memory_format=torch.channels_last)
    if numerics.compile:
        compile_when_called(net)


def compile_when_called(net: nn.Module) -> None:
    """Compile what a task calls of a net, each part after its first call: the whole net, or the towers and heads.

    A task may call methods of its net (`features`, `encode_image`), which `net.compile()` does not reach: so the
    outermost modules that are called are compiled, but for single layers. The first call works out masks and blocks:
    a graph that finds them made is compiled whole.
    """
    handles: dict[nn.Module, tuple[RemovableHandle, RemovableHandle]] = {}
    calls: list[nn.Module] = []  # that have begun and not ended

    def enter(module: nn.Module, _: Any) -> None:
        calls.append(module)

    def leave(module: nn.Module, *_: Any) -> None:
        calls.pop()
        if calls:
            return
        for part in module.modules():  # a graph would call the hooks
            for handle in handles.pop(part, ()):
                handle.remove()
        if next(module.children(), None) is not None:
            module.compile()

    for part in net.modules():
        handles[part] = part.register_forward_pre_hook(enter), part.register_forward_hook(leave)


def _has_launcher() -> bool:
    """Return whether something else started several ranks, which could measure differently and disagree."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 or int(os.environ.get("SLURM_NTASKS", 1)) > 1


def best_kernel(precision: str, attention: Sequence[MultiHead]) -> str:
    """Choose a kernel: windows or blocks for patterns that leave some out; else fused, but explicit on a CPU in bf16,
    where the fused backward pass is slow.

    Args:
        precision: on a CPU; empty elsewhere.
        attention: of the model.
    """
    wanted = {best_of_pattern(module.pattern) for module in attention}
    for kernel in ("partition", "flex"):  # each does what the ones after it do, where a layer has nothing for it
        if kernel in wanted:
            return kernel
    return "explicit" if precision.startswith("bf16") and attention else "exact"


def _measured(
    task: Task, batch: dict[str, Tensor], attention: Sequence[MultiHead], convolves: bool, identity: str
) -> Numerics:
    """Choose fp32 or bf16, contiguous or channels-last, by timing training steps for about a second.

    The choice is kept in the user's cache folder (`cached_measurement`).
    """
    variants = [Numerics(p, best_kernel(p, attention)) for p in ("32-true", "bf16-mixed")]
    if convolves:
        variants += [Numerics(p, "exact", channels_last=True) for p in ("32-true", "bf16-mixed")]
    shapes = {name: list(tensor.shape) for name, tensor in batch.items()}

    def measure() -> dict[str, Any]:
        seconds = time_in_turns([_stepper(task, batch, v) for v in variants], clock=time.process_time)
        plain = seconds[0]
        best = min(range(len(variants)), key=lambda i: seconds[i])
        chosen = variants[best] if plain / seconds[best] >= MARGIN else variants[0]
        gain = plain / min(s for v, s in zip(variants, seconds, strict=True) if v.precision != "32-true")
        chosen.why = f"bf16: {gain:.2f} times as fast"
        return asdict(chosen)

    facts = [identity, shapes, torch.get_num_threads(), [asdict(v) for v in variants]]
    return Numerics(**cached_measurement(facts, measure))


def measurements() -> Path:
    """Return the file in the user's cache folder that keeps what was measured."""
    return cache_root() / "numerics.json"


def forget_measurements() -> int:
    """Forget what was measured, so that the next run measures anew. Returns how many measurements there were.

    Raises:
        OSError: the file cannot be removed.
    """
    memory = measurements()
    if not memory.exists():
        return 0
    with alone(memory.with_suffix(".lock")):
        count = len(_known(memory))
        memory.unlink(missing_ok=True)
    return count


def cached_measurement(facts: list[Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the measurement for these facts on this chip, measuring on first use; kept in the user's cache folder.

    Args:
        facts: what it depends on, besides the chip and torch.
        measure: returns the measurement; to the reason in `why` is added the day, by which one that is kept is known.
    """
    key = hashlib.sha256(json.dumps([*facts, torch.__version__, _chip()]).encode()).hexdigest()[:16]
    memory = measurements()
    # The jobs of a sweep that begin together measure one after the other, so that equal ones compute alike.
    with alone(memory.with_suffix(".lock")):
        known = _known(memory)
        if key not in known:
            known[key] = measure()
            if known[key].get("why"):
                known[key]["why"] += f", measured {date.today()}"
            with suppress(OSError):  # a read-only home: measured again next time
                write_atomic(memory, json.dumps(known, indent=1))
        return known[key]


def _known(memory: Path) -> dict[str, Any]:
    """Return earlier measurements; a file that cannot be read is reported, and written anew."""
    try:
        return read_json(memory) if memory.exists() else {}
    except RunError as error:
        say(f"{error} It is measured again.")
        return {}


def _stepper(task: Task, batch: dict[str, Tensor], numerics: Numerics) -> Callable[[], None]:
    trial = copy.deepcopy(task)
    apply(numerics, trial.net.train())
    half = numerics.precision in ("bf16-mixed", "16-mixed")

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = trial.training_step(batch, 0)
        loss.backward()

    return step


BUSY = 1.3
"""Upper by lower quartile of a step's gain over the first one, in turns, beyond which a measurement is repeated."""


def time_in_turns(
    steps: list[Callable[[], None]], budget_s: float = 1.0, *, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Return the median time of each step; they take turns, so that disturbances meet all of them.

    Where the turns disagree, because the machine is busy, it goes on for as long again, up to three times.

    Args:
        steps: what is timed; the others are compared with the first one.
        budget_s: seconds by `clock`.
        clock: wall time where a GPU computes. On the CPU `time.process_time`, of all threads: what other programs take
            does not count. Threads of OpenMP that wait for a late one spin and count, which the repetition is for.
    """
    times: list[list[float]] = [[] for _ in steps]
    with torch.random.fork_rng(devices=[]):
        for step in steps:
            step()
        for _ in range(3):
            end = clock() + budget_s
            while clock() < end or len(times[0]) < 3:
                for step, taken in zip(steps, times, strict=True):
                    start = clock()
                    step()
                    taken.append(clock() - start)
            if all(_spread([a / b for a, b in zip(times[0], other, strict=True)]) < BUSY for other in times[1:]):
                break
    return [median(taken) for taken in times]


def _spread(values: list[float]) -> float:
    """Return the upper quartile divided by the lower one."""
    low, _, high = quantiles(values, n=4)
    return high / low


def _chip() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return "".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))
    except OSError:
        import platform

        return platform.processor()
