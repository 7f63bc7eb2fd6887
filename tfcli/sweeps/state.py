"""`sweep.json`: the jobs of a sweep and how each stands, written whole after every change."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tfcli.engine.record import finite
from tfcli.errors import RunError
from tfcli.files import write_atomic

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
    """

    number: int
    id: str
    overrides: list[str]
    status: str = "pending"
    exit_code: int | None = None
    error: str | None = None
    seconds: float | None = None

    @property
    def name(self) -> str:
        """The name of its run folder in the sweep's folder; its log is this with `.log`."""
        return f"{self.number:03d}-{self.id}"


@dataclass
class State:
    """A sweep as it stands.

    Attributes:
        verb: what each job does, for instance `train`.
        overrides: what was typed.
        swept: the keys with several values, and these.
        jobs: all jobs, in order.
        started: local time, ISO 8601.
    """

    verb: str
    overrides: list[str]
    swept: dict[str, list[str]]
    jobs: list[Job]
    started: str = ""
    schema: int = field(default=SCHEMA)

    def write(self, folder: Path) -> None:
        """Write `folder/sweep.json`, whole or not at all."""
        write_atomic(folder / "sweep.json", json.dumps(finite(asdict(self)), indent=1, ensure_ascii=False) + "\n")

    def count(self, status: str) -> int:
        """How many jobs stand so."""
        return sum(job.status == status for job in self.jobs)


def read_state(folder: Path) -> State:
    """The state of the sweep in `folder`.

    Raises:
        RunError: there is none, or another version wrote it.
    """
    path = Path(folder) / "sweep.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"`{folder}` is no sweep: it has no `sweep.json`.") from None
    except json.JSONDecodeError as error:
        raise RunError(f"`{path}` is not JSON (line {error.lineno}): {error.msg}.") from None
    if values.get("schema") != SCHEMA:
        raise RunError(f"`{path}` has schema {values.get('schema')!r}, but this version reads schema {SCHEMA}.")
    return State(**{**values, "jobs": [Job(**job) for job in values["jobs"]]})
