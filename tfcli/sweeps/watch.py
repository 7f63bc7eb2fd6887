"""Display a running sweep: a live table on a terminal, otherwise a line for each job when it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcli.engine.runs import terminal
from tfcli.engine.runs.format import seconds
from tfcli.sweeps.process import last_line, score
from tfcli.sweeps.state import STATUSES, Job, State

EVERY_S = 0.5
ROWS = 16  # of running jobs


class SweepDisplay:
    """Display of the state of a sweep's jobs.

    Args:
        state, folder: the sweep's.
        slots: how many jobs run at a time, for the estimate of the time left.
        total: how many jobs there will be; None: those of the state.
    """

    def __init__(self, state: State, folder: Path, *, slots: int, total: int | None = None):
        self.state, self.folder, self.slots, self.total = state, folder, slots, total
        self.begun, self.drawn, self.live = time.time(), 0.0, None if not terminal.is_terminal(sys.stderr) else _live()

    def __enter__(self) -> SweepDisplay:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.update("", refresh=True)
            self.live.stop()

    def tick(self, running: Sequence[Job]) -> None:
        """Draw the table, at most every half second."""
        if self.live and time.time() - self.drawn > EVERY_S:
            self.drawn = time.time()
            self.live.update(self._table(running), refresh=True)

    def ended(self, job: Job) -> None:
        """Print how a job ended."""
        message = job.error or (score(self.folder / job.name) if job.status == "finished" else "")
        line = f"{self._label(job)}  {job.status}  {seconds(job.seconds)}  {message}".rstrip()
        if self.live:
            self.live.console.print(line, style=COLOURS.get(job.status), markup=False, highlight=False)
        else:
            terminal.say(line)

    def _label(self, job: Job) -> str:
        return f"{job.number}/{self.total or len(self.state.jobs)}  {job.varied(self.state.swept)}"

    def _table(self, running: Sequence[Job]) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False, expand=True)
        for _ in range(3):
            table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for job in running[:ROWS]:
            spent = seconds(time.time() - job.started) if job.started else ""
            doing = "waits at SLURM" if job.status == "pending" else last_line(self.folder / f"{job.name}.log")
            cells = (str(job.number), job.varied(self.state.swept), spent, doing)
            table.add_row(*(Text(cell) for cell in cells))
        return Group(table, Text(self.summary(running), style="dim"))

    def summary(self, running: Sequence[Job]) -> str:
        """Return the line below the table: `12 jobs · 5 finished · 2 running · 5 pending · 1:12 min · about 3:10 min
        left`.
        """
        jobs = self.state.jobs
        total = self.total or len(jobs)
        counts = {status: sum(job.status == status for job in jobs) for status in STATUSES}
        counts["pending"] += total - len(jobs)
        order = ("finished", "failed", "interrupted", "running", "pending")
        parts = [f"{total} jobs", *(f"{counts[status]} {status}" for status in order if counts[status])]
        parts.append(seconds(time.time() - self.begun))
        left = time_left(jobs, running, total=total, slots=self.slots, now=time.time())
        return " · ".join([*parts, *([f"about {seconds(left)} left"] if left else [])])


def time_left(jobs: Sequence[Job], running: Sequence[Job], *, total: int, slots: int, now: float) -> float | None:
    """Return the seconds until the last job ends, if the rest take as long as the finished ones did; None before the
    first end.

    A running job that has already taken longer is thought to end now.
    """
    taken = [job.seconds for job in jobs if job.status == "finished" and job.seconds]
    if not taken:
        return None
    each = sum(taken) / len(taken)
    waiting = total - sum(job.status in ("finished", "failed") for job in jobs) - len(running)
    rest = [max(0.0, each - (now - (job.started or now))) for job in running]
    lanes = sorted([*rest, *([0.0] * max(0, min(slots, waiting) - len(rest)))]) or [0.0]
    for _ in range(max(0, waiting)):
        lanes.append(lanes.pop(0) + each)
        lanes.sort()
    return lanes[-1]


COLOURS = {"finished": "green", "failed": "red", "interrupted": "yellow"}


def _live() -> Any:
    from rich.console import Console
    from rich.live import Live

    return Live(console=Console(stderr=True), auto_refresh=False, transient=True)
