"""The state of a sweep on disk: `sweep.json` holds what was asked, `NNN-ID.json` beside each run folder its job's
state.

Each job has a file of its own, so that whoever runs it (this machine, a SLURM node, one worker of a search) writes it
without asking the others, and anyone may read while they run. What a run folder's own record says goes before it.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from tfcli.engine.runs.folder import alive
from tfcli.engine.runs.record import finite, read_json, read_record
from tfcli.engine.runs.terminal import say
from tfcli.errors import RunError
from tfcli.files import is_held, write_atomic
from tfcli.sweeps.expand import job_id
from tfcli.sweeps.squeue import queued

SCHEMA = 1
STATUSES = ("pending", "running", "finished", "failed", "interrupted")


@dataclass
class Job:
    """One job of a sweep.

    Attributes:
        number: its place in the sweep, from 1.
        id: what `tfcli.sweeps.expand.job_id` makes of its overrides; the same job has the same id in every sweep.
        overrides: one value a key, without `run.dir`.
        status: pending, running, finished, failed or interrupted. A finished job is never run again.
        exit_code: of its process; negative: the signal that killed it. None before its end.
        error: the last line that it said about its failure.
        seconds: from its process's start to its end.
        started: when its process was started, in seconds since the epoch.
        pid, host: its process, and the machine that it is on.
        slurm: its number at SLURM, where it was handed to that. It is pending until a node starts it.
        trial: its number in the study of a search.
    """

    number: int
    id: str
    overrides: list[str]
    status: str = "pending"
    exit_code: int | None = None
    error: str | None = None
    seconds: float | None = None
    started: float | None = None
    pid: int | None = None
    host: str | None = None
    slurm: str | None = None
    trial: int | None = None

    @property
    def name(self) -> str:
        """Return the name of its run folder in the sweep's folder; its log has this name with `.log`."""
        return f"{self.number:03d}-{self.id}"

    def write(self, folder: Path) -> None:
        """Write `folder/NAME.json`, whole or not at all."""
        write_atomic(folder / f"{self.name}.json", json.dumps(finite(asdict(self)), ensure_ascii=False) + "\n")

    def varied(self, keys: Iterable[str]) -> str:
        """Return the overrides whose keys are among `keys`, as one text."""
        return " ".join(text for text in self.overrides if text.partition("=")[0] in keys)


@dataclass
class State:
    """The state of a sweep.

    Attributes:
        verb: what each job does, for instance `train`.
        overrides: what was typed.
        swept: the keys with several values, and these.
        jobs: all jobs, in order.
        started: local time, ISO 8601.
        words: what each job is given before its settings: a run.
        config_dir, config_name: Hydra's `--config-dir` and `--config-name`, passed on to the jobs.
        root: the folder of all runs.
        launcher, search: what `launcher=` and `search=` came to, for whoever continues.
    """

    verb: str
    overrides: list[str]
    swept: dict[str, list[str]]
    jobs: list[Job]
    started: str = ""
    words: list[str] = field(default_factory=list)
    config_dir: str | None = None
    config_name: str | None = None
    root: str | None = None
    launcher: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    schema: int = field(default=SCHEMA)

    def write(self, folder: Path) -> None:
        """Write `folder/sweep.json`, whole or not at all: what was asked, and the jobs without how they stand."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["jobs"] = [{"number": job.number, "id": job.id, "overrides": job.overrides} for job in self.jobs]
        write_atomic(folder / "sweep.json", json.dumps(finite(values), indent=1, ensure_ascii=False) + "\n")

    def count(self, *statuses: str) -> int:
        """Count the jobs of these statuses."""
        return sum(job.status in statuses for job in self.jobs)

    def refresh(self, folder: Path) -> None:
        """Take over how the jobs stand by now, and those that others have added."""
        known = {job.name: job for job in self.jobs}
        for job in read_state(folder).jobs:
            vars(known.setdefault(job.name, job)).update(vars(job))
        self.jobs = sorted(known.values(), key=lambda job: job.number)

    def add(self, jobs: Sequence[Sequence[str]], swept: Mapping[str, Sequence[str]]) -> int:
        """Add the jobs that are not here yet, and what of them is new among the swept. Returns how many."""
        known = {job.id for job in self.jobs}
        new = [list(job) for job in jobs if job_id(list(job)) not in known]
        first = max((job.number for job in self.jobs), default=0) + 1
        self.jobs += [Job(i, job_id(job), job) for i, job in enumerate(new, first)]
        for key, values in swept.items():
            self.swept[key] = list(dict.fromkeys([*self.swept.get(key, []), *values]))
        return len(new)


def read_state(folder: Path) -> State:
    """Read the state of the sweep in `folder`, each job's from its own files.

    Raises:
        RunError: there is none, or another version wrote it.
    """
    folder = Path(folder)
    values = _read(folder / "sweep.json", f"`{folder}` is no sweep: it has no `sweep.json`.")
    if values.get("schema") != SCHEMA:
        raise RunError(
            f"`{folder / 'sweep.json'}` has schema {values.get('schema')!r}, but this version reads schema {SCHEMA}."
        )
    jobs = {job.name: job for job in (_job(v) for v in values["jobs"])}
    for file in sorted(folder.glob("[0-9]*-*.json")):
        try:
            job = read_job(file)
        except RunError as error:
            _say_once(f"skipped: {error} The job's own folder says how it stands.")
        else:
            jobs[job.name] = job
    known = {f.name for f in fields(State)}
    state = State(**{**{k: v for k, v in values.items() if k in known}, "jobs": list(jobs.values())})
    for job in state.jobs:
        settle(job, folder)
    return state


def read_job(file: Path) -> Job:
    """Read the state of one job."""
    return _job(_read(file, f"there is no `{file}`."))


def _job(values: dict[str, Any]) -> Job:
    known = {f.name for f in fields(Job)}
    return Job(**{k: v for k, v in values.items() if k in known})


def _read(path: Path, absent: str) -> dict[str, Any]:
    if not path.exists():
        raise RunError(absent)
    return read_json(path)


@cache
def _say_once(line: str) -> None:
    say(line)  # a sweep that runs reads its files every second


def settle(job: Job, folder: Path) -> None:
    """Set a job's status to what its process and its run folder say, since the process that started it may be gone."""
    run = folder / job.name
    handed = job.slurm is not None and job.status == "pending"
    if (handed or job.status == "running") and is_running(job, run):
        return
    if job.slurm and job.status in ("pending", "running"):  # it may have ended since its file was read
        vars(job).update(vars(read_job(folder / f"{job.name}.json")))
    status, error = _recorded(run)
    if status == "finished":
        job.status, job.error = "finished", None
    elif job.status == "finished" and status == "failed":  # its record cannot be read any more
        job.status, job.error = "failed", error
    elif job.status == "running" or (job.slurm and job.status == "pending"):  # nobody was there to say how it ended
        job.status, job.error = ("failed", error) if status == "failed" else ("interrupted", None)
        if job.slurm and job.status == "interrupted":
            job.error = f"SLURM ended it (job {job.slurm}): its time or memory was up, or it was cancelled"


def is_running(job: Job, run: Path) -> bool:
    """Return whether a job's process lives, or its run folder is locked by a process that does.

    SLURM is asked about its own; one on another machine is believed.
    """
    if job.slurm:
        known = queued(since=(run.parent / f"{job.name}.json").stat().st_mtime)
        return known is None or job.slurm in known
    if job.host not in (None, socket.gethostname()):
        return True
    if job.pid is not None and alive(job.pid) and _is_ours(job.pid, run):
        return True
    return is_held(run / ".lock")


def _is_ours(pid: int, run: Path) -> bool:
    """Return whether a process works on `run`; a later process may have the same number."""
    try:  # a forked one has its worker's command line and a name of its own; a zombie has no command line
        command, name = (Path(f"/proc/{pid}/{file}").read_bytes() for file in ("cmdline", "comm"))
        return bool(command) and (run.name.encode() in command or run.name.encode() == name.strip())
    except OSError:
        return not Path("/proc/self").exists()


def _recorded(run: Path) -> tuple[str | None, str | None]:
    if not (run / "results.json").exists():
        return None, None
    try:
        record = read_record(run)
    except RunError as error:
        return "failed", f"{error} Delete it, and `tfcli sweep retry` writes it anew."
    return record.status, record.error
