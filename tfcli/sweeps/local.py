"""Run jobs on this machine: several processes at a time, each with its share of the cores, or its own GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tfcli.bounds import Count
from tfcli.engine.config.configs import FROZEN_VERBS
from tfcli.sweeps.process import TFCLI, Process, job_environment
from tfcli.sweeps.state import Job, State
from tfcli.sweeps.worker import Worker


class Local:
    """Launcher on this machine: starts `jobs` jobs at a time.

    On Linux they are forked from a worker that has imported everything. Where there are GPUs, each is started anew.
    """

    def __init__(self, *, jobs: Count = 1):
        self.slots = jobs
        self.gpus: list[str] = []
        self.taken: Counter[str] = Counter()
        self.worker: Worker | None = None

    def open(self, state: State, folder: Path, command: Sequence[str]) -> None:
        """Get ready to run jobs of this sweep."""
        self.state, self.folder, self.command = state, folder, command
        found = gpus()
        self.gpus = found if self.slots > 1 else []
        self.forks = sys.platform == "linux" and not found and tuple(command) == TFCLI

    def ready(self) -> bool:
        """Return whether jobs can be started by now. The first call starts the worker."""
        if not self.forks:
            return True
        if self.worker is None:
            primary = "probe" if self.state.verb in FROZEN_VERBS else "train"
            self.worker = Worker(primary, job_environment(self.folder, self._threads()))
        self.worker.receive()
        return self.worker.ready or self.worker.gone

    def close(self) -> None:
        """End the worker."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def start(self, jobs: Sequence[Job]) -> list[LocalJob]:
        """Start these jobs."""
        return [LocalJob(job, self) for job in jobs]

    def share(self, job: Job) -> tuple[list[str], dict[str, str | None]]:
        """Choose the GPUs of a job; return them and the environment variables that limit the job to them and to its
        cores.
        """
        environment: dict[str, str | None] = dict(self._threads())
        if not self.gpus:
            return [], environment
        asked = dict(text.partition("=")[::2] for text in job.overrides).get("trainer.devices", "1")
        count = int(asked) if asked.isdigit() else 1
        devices = sorted(self.gpus, key=lambda gpu: self.taken[gpu])[:count]
        return devices, environment | {"CUDA_VISIBLE_DEVICES": ",".join(devices)}

    def _threads(self) -> dict[str, str]:
        if self.slots == 1 or "OMP_NUM_THREADS" in os.environ:
            return {}
        return {"OMP_NUM_THREADS": str(max(1, cores() // self.slots))}


class LocalJob(Process):
    """A job on this machine, which gives its GPUs back when it ends."""

    def __init__(self, job: Job, local: Local):
        self.local, job.slurm = local, None
        self.devices, environment = local.share(job)
        super().__init__(
            job, local.state, local.folder, command=local.command, environment=environment, worker=local.worker
        )
        local.taken.update(self.devices)

    def _end(self, code: int) -> None:
        self.local.taken.subtract(self.devices)
        super()._end(code)


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """List the GPUs that a job may be given, as `CUDA_VISIBLE_DEVICES` names them. Asks the driver, not torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        asked = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []
