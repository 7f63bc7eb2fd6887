"""Ranks, loader processes and free memory of this machine."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import NamedTuple

FEW_CORES = 4
MOST_WORKERS = 8
GRACE_S = 20


class Ranks(NamedTuple):
    """Number of this process, and the number of processes."""

    rank: int = 0
    world: int = 1

    @classmethod
    def from_environment(cls) -> Ranks:
        """Return the ranks that torchrun, Lightning's launcher or SLURM's srun set; (0, 1) otherwise."""
        env = os.environ
        for rank, world in (("RANK", "WORLD_SIZE"), ("LOCAL_RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
            if rank in env and world in env:
                return cls(int(env[rank]), max(1, int(env[world])))
        return cls()


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_workers(
    asked: int | str, *, in_memory: bool, ranks: Ranks, batches: int, bytes_a_batch: int
) -> tuple[int, str | None]:
    """Choose the number of loader processes, with a note where it is smaller than requested.

    `auto` means none where data are in memory and cores are few, because gathering rows is then faster than passing
    batches between processes; otherwise one less than the cores of this rank, at most eight.
    """
    share = max(1, cores() // ranks.world)
    if asked == "auto":
        count = 0 if in_memory and cores() <= FEW_CORES else min(share - 1, MOST_WORKERS)
        return _fits(max(0, min(count, batches)), bytes_a_batch, asked=None)
    count = int(asked)
    if count > cores():
        reduced, note = _fits(cores(), bytes_a_batch, asked=None)
        return reduced, note or f"data.workers={count} is more than the {cores()} cores here: {reduced} are used"
    return _fits(count, bytes_a_batch, asked=count)


def outlive_signals(worker: int) -> None:
    """Keep a loader process alive after a signal to its process group, until its parent has finished the step."""
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(GRACE_S))  # SIGALRM ends the process


def _fits(count: int, bytes_a_batch: int, *, asked: int | None) -> tuple[int, str | None]:
    """Return `count`, or 0 and a note where shared memory is too small for the batches of all loader processes."""
    shared = Path("/dev/shm")
    if count == 0 or not shared.is_dir():
        return count, None
    free = shutil.disk_usage(shared).free
    if 3 * count * bytes_a_batch <= free:
        return count, None
    return 0, f"shared memory (/dev/shm) has only {free / 1e6:.0f} MB free: batches are loaded without worker processes"


def free_memory() -> int:
    """Return the available memory in bytes, by the system's estimate and the container's limit."""
    available = None
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = 1024 * int(line.split()[1])
    if available is None:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and limit.read_text().strip().isdigit():
        available = min(available, max(0, int(limit.read_text()) - int(used.read_text())))
    return available
