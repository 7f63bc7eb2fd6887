"""Run a list of jobs in the folder of a sweep, from the start or from where it stopped."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfcli.engine.config.build import build
from tfcli.engine.config.configs import FROZEN_VERBS
from tfcli.engine.runs import terminal
from tfcli.engine.runs.folder import link_latest, locked, make_folder
from tfcli.errors import Interrupted
from tfcli.sweeps import ablation_table
from tfcli.sweeps.expand import job_id
from tfcli.sweeps.pool import JobList, Pool, is_active
from tfcli.sweeps.process import TFCLI
from tfcli.sweeps.state import State, read_state
from tfcli.sweeps.suite import write_suite
from tfcli.sweeps.table import write_tables

LOCAL = {"_target_": "tfcli.sweeps.local.Local"}


@dataclass(frozen=True)
class Launch:
    """Settings by which the jobs of a sweep are run.

    Attributes:
        jobs: how many at a time; None: as the launcher says.
        fail_fast: at the first job that fails, start no more and stop the running ones.
        retry: run the failed jobs anew as well.
        launcher: values of `conf/launcher/*.yaml`; none: those that the sweep began with, else this machine's.
        search: values of `conf/search/*.yaml`; none: the jobs are a list.
        command: how the program is started.
    """

    jobs: int | None = None
    fail_fast: bool = False
    retry: bool = False
    launcher: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    command: Sequence[str] = TFCLI


DEFAULT = Launch()


def run_in(
    folder: Path,
    verb: str,
    jobs: Sequence[Sequence[str]],
    *,
    swept: dict[str, list[str]],
    overrides: Sequence[str] = (),
    launch: Launch = DEFAULT,
    config_dir: str | None = None,
    config_name: str | None = None,
    words: Sequence[str] = (),
    root: Path | str,
    only: bool = False,
) -> State:
    """Make the sweep that lives in `folder`, or continue it, until each of its jobs has finished or failed.

    Finished jobs are skipped, interrupted ones go on from their checkpoint (or start anew without one), failed ones
    stay failed unless `launch.retry`. Jobs that the sweep did not have yet are added to it.

    Args:
        folder: made where it is not there: sweep.json, table.{md,csv,json}, and a run folder and a log a job.
        verb: what each job does, for instance `train`.
        jobs: the overrides of each, one value a key. One that the sweep has already is not added again.
        swept: the keys that take several values, with these: they name the jobs and the rows of the table.
        overrides: what was typed, for the record.
        launch: how they are run.
        config_dir, config_name: Hydra's `--config-dir` and `--config-name`, passed on to the jobs.
        words: what each job is given before its settings: a run.
        root: the folder of all runs, whose `latest` link follows the finished jobs.
        only: leave what else the sweep has to do for another time.

    Returns:
        how it ended. Failed jobs are no error here: see `State.count`.

    Raises:
        RunError: the folder cannot be written, or another process runs this sweep.
        Interrupted: Ctrl-C or SIGTERM; the running jobs have saved and ended, the rest is pending.
    """
    make_folder(folder)
    with locked(folder) if not launch.search else nullcontext():
        known = (folder / "sweep.json").exists()
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        state = read_state(folder) if known else State(verb, list(overrides), {}, [], now)
        launcher, source = build_parts(launch, state)
        before = len(state.jobs)
        added = state.add(jobs, swept)
        state.words, state.config_dir, state.config_name, state.root = list(words), config_dir, config_name, str(root)
        state.search = dict(launch.search)
        if not (known and launch.search):  # another worker's, who may be writing
            state.write(folder)
        if known:
            more = f", {added} added" if added else ""
            terminal.say(f"continued: {state.count('finished')} of {before} jobs finished{more} · {folder}")
        wanted = {job_id(list(job)) for job in jobs} if only else {job.id for job in state.jobs}
        _run(state, folder, launch, launcher, source, wanted)
    return state


def build_parts(launch: Launch, state: State) -> tuple[Any, Any]:
    """Return the launcher of the jobs, and the search that proposes them (None where they are a list)."""
    state.launcher = dict(launch.launcher or state.launcher or LOCAL)
    if launch.jobs:
        state.launcher["jobs"] = launch.jobs
    return build(state.launcher), build(launch.search) if launch.search else None


def _run(state: State, folder: Path, launch: Launch, launcher: Any, search: Any, wanted: set[str]) -> None:
    """Run the jobs that are left among those `wanted` and write the tables."""
    launcher.open(state, folder, launch.command)
    root = Path(str(state.root))
    pool = Pool(
        state,
        folder,
        launcher,
        fail_fast=launch.fail_fast,
        on_finished=lambda job: link_latest(root, folder / job.name),
    )
    if search:
        search.open(state, folder, f"{folder.parent.name}-{folder.name[16:24]}")
        pool.run(search)
        state.refresh(folder)
        state.search["best"] = search.best()
        state.write(folder)
    else:
        for job in state.jobs:
            if job.status == "running" and job.host != socket.gethostname() and not job.slurm:
                job.status = "interrupted"  # we hold the sweep's lock: whoever ran it there is gone, and it too
        found = [job for job in state.jobs if is_active(job)]
        left = ("pending", "interrupted", "failed") if launch.retry else ("pending", "interrupted")
        todo = [job for job in state.jobs if job.status in left and job.id in wanted and job not in found]
        if todo or found:
            pool.run(JobList(todo), found)
    tables(folder, state)
    if pool.signum:
        rest = len(state.jobs) - state.count("finished", "failed")
        goes_on = sum(is_active(job) for job in state.jobs) if not search else 0
        more = f" ({goes_on} go on at SLURM; `scancel` ends them)" if goes_on else ""
        message = f"stopped: {state.count('finished')} jobs finished, {rest} left{more} · {folder}"
        raise Interrupted(pool.signum, message)


def tables(folder: Path, state: State) -> dict[str, Any]:
    """Write the tables of a sweep: of an ablation, of heads on frozen features, or of runs; return their values."""
    if (folder / "ablation.json").exists():
        return ablation_table.write_tables(folder, state)
    return write_suite(folder, state) if state.verb in FROZEN_VERBS else write_tables(folder, state)
