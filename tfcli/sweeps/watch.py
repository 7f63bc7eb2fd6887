"""What is seen of a sweep while it runs: a line a job where stderr is no terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tfcli.engine import terminal
from tfcli.engine.tables import seconds
from tfcli.sweeps.process import last_line, score
from tfcli.sweeps.state import Job, State


class Watch:
    """Shows how the jobs of a sweep stand."""

    def __init__(self, state: State, folder: Path):
        self.state, self.folder = state, folder

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        terminal.status("")

    def tick(self, running: Sequence[Job]) -> None:
        """Draw the running jobs."""
        for job in running[:1]:
            spent = seconds(time.time() - (job.started or time.time()))
            terminal.status(f"{self._label(job)}  {spent}  {last_line(self.folder / f'{job.name}.log')}")

    def ended(self, job: Job) -> None:
        """Say how a job ended."""
        terminal.status("")
        said = job.error or (score(self.folder / job.name) if job.status == "finished" else "")
        terminal.say(f"{self._label(job)}  {job.status}  {seconds(job.seconds)}  {said}".rstrip())

    def _label(self, job: Job) -> str:
        return f"{job.number}/{len(self.state.jobs)}  {job.varied(self.state.swept)}"
