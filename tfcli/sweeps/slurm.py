"""Submit jobs to a SLURM cluster through submitit, as one array, and watch them through their files.

They do not need the process that handed them in: each writes how it stands into the sweep's folder from its node.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcli.bounds import Count, Natural
from tfcli.engine.runs.signals import handling
from tfcli.errors import ConfigError, install
from tfcli.sweeps.pool import DetachedJob
from tfcli.sweeps.process import Process, remove_attempt
from tfcli.sweeps.state import Job, State, read_job, read_state

ALL = 1_000_000


class Slurm:
    """Launcher that submits jobs to SLURM. The settings are those of `conf/launcher/slurm.yaml`.

    Raises:
        ConfigError: submitit is not installed, or this machine has no `sbatch`.
    """

    def __init__(
        self,
        *,
        jobs: Count | None = None,
        partition: str | None = None,
        timeout_min: Count = 240,
        gpus: Natural = 0,
        cpus: Count = 1,
        memory: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ):
        try:
            import submitit  # noqa: F401
        except ModuleNotFoundError:
            raise ConfigError(f"`launcher=slurm` needs a package that is not installed: {install('slurm')}") from None
        if shutil.which("sbatch") is None:
            raise ConfigError(
                "`launcher=slurm`: there is no `sbatch` on this machine. Run it where the cluster takes jobs, "
                "or leave `launcher=` out to run here."
            )
        self.jobs = jobs
        given = {"timeout_min": timeout_min, "cpus_per_task": cpus, "slurm_partition": partition, "slurm_mem": memory}
        given |= {"gpus_per_node": gpus or None, "slurm_array_parallelism": jobs}
        self.parameters: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        self.parameters["slurm_additional_parameters"] = dict(extra or {})

    def open(self, state: State, folder: Path, command: Sequence[str]) -> None:
        """Get ready to run jobs of this sweep."""
        self.state, self.folder, self.command = state, folder.resolve(), command
        # SLURM itself keeps to `jobs` of an array; a search hands in one job after the other.
        self.slots = (self.jobs or 1) if state.search else ALL

    def ready(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def start(self, jobs: Sequence[Job]) -> list[DetachedJob]:
        """Hand these jobs in.

        Raises:
            ConfigError: SLURM refuses, in its own words.
        """
        import submitit

        for job in jobs:
            if job.status == "failed":
                remove_attempt(self.folder / job.name)
            job.status, job.error, job.exit_code, job.seconds = "pending", None, None, None
            job.pid, job.host, job.started = None, None, None
        executor = submitit.AutoExecutor(self.folder / "slurm", cluster="slurm")
        executor.update_parameters(name=f"tfcli-{self.folder.name}", nodes=1, tasks_per_node=1, **self.parameters)
        try:
            with executor.batch():
                handed = [executor.submit(work, str(self.folder), job.name, list(self.command)) for job in jobs]
        except (subprocess.CalledProcessError, submitit.core.utils.FailedJobError) as error:
            message = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise ConfigError(f"SLURM does not take the jobs: {message[-1] if message else error}") from error
        for job, at in zip(jobs, handed, strict=True):
            job.slurm = at.job_id
            job.write(self.folder)
        return [DetachedJob(job, self.folder) for job in jobs]


def work(folder: str, name: str, command: Sequence[str]) -> str:
    """Run one job on a node, as a process of its own, and return its status.

    SLURM's variables are kept from it, so that it is one run on one machine, whatever devices it was given. When its
    time is nearly up (SIGUSR2) or it is cancelled, it saves and ends.
    """
    import submitit

    own = submitit.JobEnvironment().job_id
    wait_for_number(Path(folder) / f"{name}.json", own)
    state = read_state(Path(folder))
    job = next(job for job in state.jobs if job.name == name)
    job.slurm = own
    environment: dict[str, str | None] = {key: None for key in os.environ if key.startswith(("SLURM_", "SUBMITIT_"))}
    if "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = os.environ.get("SLURM_CPUS_PER_TASK")
    process = Process(job, state, Path(folder), command=command, environment=environment)
    with handling(lambda signum, frame: process.stop(signal.SIGTERM)):
        signal.signal(signal.SIGUSR2, lambda signum, frame: process.stop(signal.SIGTERM))
        process.wait()
    return job.status


def wait_for_number(path: Path, number: str, *, seconds: float = 60.0) -> None:
    """Wait until whoever handed the job in has written its number, which comes after SLURM took it.

    A job that began at once would say that it runs, and then be said to be pending. Where the writer was killed in
    between, the job goes on when the time is up.
    """
    end = time.monotonic() + seconds
    while read_job(path).slurm != number and time.monotonic() < end:
        time.sleep(0.1)
