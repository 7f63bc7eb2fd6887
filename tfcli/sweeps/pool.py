"""Keep jobs running until none is left, whoever starts them and wherever they come from."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import Protocol

from tfcli.engine.runs.signals import handling
from tfcli.sweeps.state import Job, State, read_job, settle
from tfcli.sweeps.watch import SweepDisplay

TICK_S = 0.1
POLL_S = 1.0  # between two reads of the files of a detached job


class StartedJob(Protocol):
    """A job that was started. `signum` is the last signal that was passed on to it, or 0; `lost` says that it was
    interrupted because the process that started it is gone.
    """

    job: Job
    signum: int

    @property
    def lost(self) -> bool: ...
    def poll(self) -> bool: ...
    def stop(self, signum: int, *, at_once: bool = False) -> None: ...
    def cancel(self) -> None: ...


class Launcher(Protocol):
    """Protocol of launchers: places where jobs run, `slots` at a time."""

    slots: int

    def open(self, state: State, folder: Path, command: Sequence[str]) -> None: ...
    def ready(self) -> bool: ...
    def close(self) -> None: ...
    def start(self, jobs: Sequence[Job]) -> Sequence[StartedJob]: ...


class Source(Protocol):
    """Protocol of sources of jobs: a list, or a search that proposes them and states how many in `total`."""

    total: int | None

    def take(self, count: int) -> list[Job]:
        """Return at most `count` jobs to start now; none when there is nothing more to do."""

    def ended(self, job: Job) -> None:
        """Take note that a job has ended."""


class JobList:
    """Source of jobs: a list, in order."""

    total: int | None = None

    def __init__(self, jobs: Sequence[Job]):
        self.jobs = deque(jobs)

    def take(self, count: int) -> list[Job]:
        return [self.jobs.popleft() for _ in range(min(count, len(self.jobs)))]

    def ended(self, job: Job) -> None:
        pass


class DetachedJob:
    """A job that runs without this process, at SLURM or started by a process that is gone; its files give its state."""

    def __init__(self, job: Job, folder: Path):
        self.job, self.folder, self.signum, self.polled = job, folder, 0, -POLL_S

    @property
    def lost(self) -> bool:
        return not self.job.slurm

    def poll(self) -> bool:
        if self.signum and self.job.slurm:
            return True  # it goes on without us
        if time.monotonic() - self.polled < POLL_S:
            return False
        vars(self.job).update(vars(read_job(self.folder / f"{self.job.name}.json")))
        settle(self.job, self.folder)
        self.polled = time.monotonic()
        return self.job.status not in ("pending", "running")

    def stop(self, signum: int, *, at_once: bool = False) -> None:
        self.signum = signum
        if self.job.pid and not self.job.slurm:
            with suppress(ProcessLookupError):
                os.kill(self.job.pid, signal.SIGKILL if at_once else signum)

    def cancel(self) -> None:
        if self.job.slurm:
            subprocess.run(["scancel", self.job.slurm], check=False, capture_output=True)
        else:
            self.stop(signal.SIGTERM)


def is_active(job: Job) -> bool:
    """Return whether a job runs, or waits at SLURM."""
    return job.status == "running" or (job.status == "pending" and job.slurm is not None)


class Pool:
    """Runs jobs until none is left or a signal arrives.

    Ctrl-C and SIGTERM are passed on to every running job, which saves and ends; the third signal kills them. Jobs at
    SLURM continue. `signum` is the signal that arrived, or 0.

    Args:
        state, folder: the sweep's.
        launcher: starts them.
        fail_fast: at the first job that fails, start no more and ask the running ones to save and end.
        on_finished: called with each job that finished.
    """

    def __init__(
        self, state: State, folder: Path, launcher: Launcher, *, fail_fast: bool, on_finished: Callable[[Job], None]
    ):
        self.state, self.folder, self.launcher = state, folder, launcher
        self.fail_fast, self.on_finished = fail_fast, on_finished
        self.signum, self.count, self.stopping = 0, 0, False
        self.running: list[StartedJob] = []

    def run(self, source: Source, found: Sequence[Job] = ()) -> None:
        """Run what `source` gives, and wait for the jobs `found` running."""
        requeued: list[Job] = []
        watching = SweepDisplay(self.state, self.folder, slots=self.launcher.slots, total=source.total)
        with closing(self.launcher), handling(self._on_signal), watching as watch:
            self.running = [DetachedJob(job, self.folder) for job in found]
            while True:
                ready = self.launcher.ready()
                if ready and not self.stopping:
                    free = max(0, self.launcher.slots - len(self.running))
                    jobs, requeued = requeued[:free], requeued[free:]
                    jobs += source.take(free - len(jobs)) if free > len(jobs) else []
                    self.running += self.launcher.start(jobs) if jobs else []
                if not self.running and (ready or self.stopping):
                    break
                if self.signum:  # it may have come while one was being started
                    self._pass_on(only_new=True)
                for started in [s for s in self.running if s.poll()]:
                    self.running.remove(started)
                    job = started.job
                    if is_active(job):  # we stop, it does not
                        continue
                    if started.lost and job.status == "interrupted":
                        requeued.append(job)
                    else:
                        self._ended(job, source, watch)
                watch.tick([s.job for s in self.running])
                time.sleep(TICK_S)

    def _ended(self, job: Job, source: Source, watch: SweepDisplay) -> None:
        source.ended(job)
        watch.ended(job)
        if job.status == "finished":
            self.on_finished(job)
        if job.status == "failed" and self.fail_fast and not self.stopping:
            self.stopping = True
            for started in self.running:
                started.cancel()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self.signum, self.count, self.stopping = signum, self.count + 1, True
        self._pass_on()

    def _pass_on(self, *, only_new: bool = False) -> None:
        for started in self.running:
            if not (only_new and started.signum):
                started.stop(self.signum, at_once=self.count >= 3)
