"""Check the environment: each check says what was found and, where it would fail, what to type."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tfcli.engine.runs.folder import check_writable, git_state, wandb_login
from tfcli.engine.runs.format import size
from tfcli.errors import RunError
from tfcli.files import cache_root, data_root

TESTED = {
    "torch": ("2.10", "2.15"),
    "torchvision": ("0.25", "0.29"),
    "pytorch-lightning": ("2.5", "2.6"),
    "hydra-core": ("1.3.5", "1.3"),
    "torchmetrics": ("1.5", "1.9"),
    "wandb": ("0.19", "0.31"),
}
"""Library -> the oldest version that is accepted, and the newest series that was tested."""

REQUIRED = ("torch", "torchvision", "pytorch_lightning", "hydra", "torchmetrics")

FAST = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 bf16", "amx_tile": "AMX", "amx_bf16": "AMX bf16"}


class Check(NamedTuple):
    """Result of a check: ok, note (something will not work, or not well) or broken (no run can start)."""

    name: str
    state: str
    found: str
    mend: str = ""


def examine(root: Path | str = "outputs") -> list[Check]:
    """Return all checks, in the order in which a run would need them. Imports torch."""
    return [*_versions(), *_devices(), *_machine(), *_folders(Path(root)), *_outside(), *_code()]


def recalibration() -> Check:
    """Forget the measured choices of arithmetic, and say how many there were and where. Imports torch."""
    from tfcli.engine.train.numerics import forget_measurements, measurements

    try:
        count = forget_measurements()
    except OSError as error:
        return Check("calibration", "broken", str(error), f"rm {measurements()}")
    what = f"{count} measured choice{'s' if count != 1 else ''} forgotten" if count else "nothing measured yet"
    return Check("calibration", "ok", f"{what} ({measurements()}): the next run measures anew")


def _series(text: str) -> tuple[int, ...]:
    numbers = []
    for part in text.partition("+")[0].split(".")[:3]:
        digits = "".join(c for c in part if c.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


def _versions() -> Iterator[Check]:
    python = platform.python_version()
    old = sys.version_info < (3, 11)
    yield Check("python", "broken" if old else "ok", python, "install Python 3.11 or newer" if old else "")
    for name, (oldest, newest) in TESTED.items():
        yield _version(name, oldest, newest)
    for module in REQUIRED:
        try:
            importlib.import_module(module)
        except (ImportError, OSError) as error:
            text = " ".join(str(error).split())
            yield Check(f"import {module}", "broken", text, f"pip install --force-reinstall {module.replace('_', '-')}")


def _version(name: str, oldest: str, newest: str) -> Check:
    try:
        found = version(name)
    except PackageNotFoundError:
        state = "note" if name == "wandb" else "broken"
        return Check(name, state, "not installed", f"pip install '{name}>={oldest}'")
    if _series(found) < _series(oldest):
        return Check(name, "broken", f"{found}, older than {oldest}", f"pip install -U '{name}>={oldest}'")
    if _series(found)[:2] > _series(newest)[:2]:
        mend = f"should a run fail: pip install '{name}=={newest}.*'"
        return Check(name, "note", f"{found}, newer than what was tested ({newest})", mend)
    return Check(name, "ok", found)


def _devices() -> Iterator[Check]:
    try:
        import torch
    except (ImportError, OSError):
        return
    if not torch.cuda.is_available():
        card = Path("/proc/driver/nvidia/version").exists()
        mps = torch.backends.mps.is_available()
        found = "none usable by this torch, though a driver is here" if card else "Apple MPS" if mps else "none"
        yield Check("GPU", "note" if card else "ok", found, "install a torch built for CUDA" if card else "")
    for i in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(i)
        free, total = torch.cuda.mem_get_info(i)
        bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
        state = "ok" if free > 0.5 * total else "note"
        mend = "" if state == "ok" else "another program holds its memory: nvidia-smi"
        yield Check(f"GPU {i}", state, f"{facts.name}, {size(free)} of {size(total)} free, {bf16}", mend)
    yield Check("threads", "ok", f"{torch.get_num_threads()} for torch" + _variable("OMP_NUM_THREADS"))


def _variable(name: str) -> str:
    return f", {name}={os.environ[name]}" if name in os.environ else ""


def _machine() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    flags = _cpu_flags()
    yield Check("CPU", "ok", ", ".join([f"{cores} cores", *(name for flag, name in FAST.items() if flag in flags)]))
    if (memory := _memory()) is not None:
        free, total = memory
        mend = "" if free >= 2e9 else "data.cache=none data.batch_size=32"
        yield Check("memory", "note" if mend else "ok", f"{size(free)} of {size(total)} free", mend)
    shared = Path("/dev/shm")
    if shared.is_dir():
        total = shutil.disk_usage(shared).total
        mend = "" if total >= 256e6 else "data.workers=0, or a container with --shm-size=1g"
        yield Check("/dev/shm", "note" if mend else "ok", size(total), mend)


def _cpu_flags() -> set[str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), []))


def _memory() -> tuple[float, float] | None:
    """Return free and total bytes; the container's limit counts."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    facts = {
        line.partition(":")[0]: float(line.split()[1]) * 1024 for line in path.read_text(encoding="ascii").splitlines()
    }
    free, total = facts["MemAvailable"], facts["MemTotal"]
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
        total = min(total, float(text))
        free = min(free, total - float(used.read_text(encoding="ascii")))
    return free, total


def _folders(root: Path) -> Iterator[Check]:
    data = data_root(None)
    yield _folder("outputs", root, "broken", "run.root=FOLDER, one that can be written")
    yield _folder("cache", cache_root(), "note", "export TFCLI_CACHE=FOLDER, one that can be written")
    if data.is_dir() and not os.access(data, os.W_OK):
        yield Check("data root", "ok", f"{data}, read only: nothing is downloaded there")
    else:
        yield _folder("data root", data, "note", "export TFCLI_DATA=FOLDER, or data.root=FOLDER")


def _folder(name: str, path: Path, bad: str, mend: str) -> Check:
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    try:
        check_writable(existing)
    except RunError:
        there = "cannot be written" if existing == path else "is not there and cannot be made"
        return Check(name, bad, f"{path} {there}", mend)
    free = shutil.disk_usage(existing).free
    if free < 1e9:
        return Check(name, "note", f"{path}, {size(free)} free", f"free some space, or {mend}")
    return Check(name, "ok", f"{path}, {size(free)} free")


def _outside() -> Iterator[Check]:
    yield network()
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        yield Check("W&B", "ok", f"WANDB_MODE={os.environ['WANDB_MODE']}")
    elif wandb_login():
        yield Check("W&B", "ok", "logged in")
    else:
        yield Check("W&B", "note", "no login: runs are logged offline", "wandb login, or logger=csv")


HOSTS = ("https://huggingface.co", "https://download.pytorch.org", "https://api.wandb.ai")
"""Hosts of weights, data and logs."""


@cache
def network(timeout_s: float = 4.0) -> Check:
    """Ask each host for its first line, all at once and through the proxy of the environment, where there is one.

    Nothing is tried under TFCLI_OFFLINE=1 or HF_HUB_OFFLINE=1.
    """
    closed = [n for n in ("TFCLI_OFFLINE", "HF_HUB_OFFLINE") if os.environ.get(n, "") not in ("", "0")]
    if closed:
        return Check("network", "note", f"not tried: {closed[0]}={os.environ[closed[0]]}", f"unset {closed[0]}")
    with ThreadPoolExecutor(len(HOSTS)) as pool:
        answers = dict(zip(HOSTS, pool.map(lambda host: _reason(host, timeout_s), HOSTS), strict=True))
    silent = {host.partition("//")[2]: reason for host, reason in answers.items() if reason}
    if not silent:
        return Check("network", "ok", ", ".join(host.partition("//")[2] for host in HOSTS))
    mend = "set HTTPS_PROXY where there is a proxy; without a network: TFCLI_OFFLINE=1, and files fetched by hand"
    found = "; ".join(f"{host}: {reason}" for host, reason in silent.items())
    return Check("network", "note", found, mend)


def _reason(host: str, timeout_s: float) -> str:
    """Return why a host does not answer; empty where it answers, with whatever status."""
    try:
        with urlopen(Request(host, method="HEAD"), timeout=timeout_s):
            return ""
    except HTTPError:
        return ""
    except URLError as error:
        return " ".join(str(error.reason).split())
    except (OSError, HTTPException) as error:
        return " ".join(str(error).split()) or type(error).__name__


def _code() -> Iterator[Check]:
    state = git_state()
    if state is None:
        yield Check("git", "ok", "not in a git tree: runs record no commit")
    else:
        yield Check("git", "ok", state["commit"][:10] + (", with uncommitted changes" if state["dirty"] else ""))
