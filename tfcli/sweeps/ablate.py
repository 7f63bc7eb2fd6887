"""Run an ablation as a sweep: its estimate, its jobs, its table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfcli.engine.runs.folder import make_folder
from tfcli.engine.runs.format import seconds
from tfcli.engine.runs.record import read_record
from tfcli.files import write_atomic
from tfcli.sweeps.ablation import Ablation, Budget, Cell, load
from tfcli.sweeps.expand import job_id
from tfcli.sweeps.runner import Launch, run_in
from tfcli.sweeps.state import Job, State, read_state


@dataclass(frozen=True)
class Planned:
    """An ablation with its budget and what was typed: checked, nothing started.

    Attributes:
        folder: where its sweep is or will be: ROOT/ablate/NAME-BUDGET, with what was typed as a digest behind it.
        root: the folder of all runs.
    """

    ablation: Ablation
    budget: Budget
    typed: list[str]
    cells: list[Cell]
    folder: Path
    root: Path

    @property
    def jobs(self) -> list[list[str]]:
        """Return all jobs, one seed of every cell after another, so that a half-finished table has every cell."""
        rounds = max((len(cell.jobs) for cell in self.cells), default=0)
        return [cell.jobs[i] for i in range(rounds) for cell in self.cells if i < len(cell.jobs)]

    @property
    def state(self) -> State:
        """Return the state of its sweep, without jobs where there is none yet."""
        if (self.folder / "sweep.json").exists():
            return read_state(self.folder)
        return State(self.ablation.verb, self.typed, {}, [])


def plan(name: str, budget: str | None, typed: Sequence[str], config_dir: str | None = None) -> Planned:
    """Read an ablation and check every cell of it.

    Args:
        name: of a file in conf/ablation.
        budget: one of its budgets; its first when None.
        typed: overrides for all cells.

    Raises:
        ConfigError: what is wrong with the file, the budget, or a cell.
    """
    ablation = load(name, config_dir)
    chosen = ablation.budget(budget or next(iter(ablation.budgets)))
    cells = ablation.cells(chosen, typed)
    root = Path(ablation.check(cells, config_dir))
    own = [text for text in typed if text.partition("=")[0] not in ("seed", "run.root")]
    ident = f"-{job_id(own)}" if own else ""
    return Planned(ablation, chosen, list(typed), cells, root / "ablate" / f"{name}-{chosen.name}{ident}", root)


def run(planned: Planned, launch: Launch, config_dir: str | None = None) -> State:
    """Run what is left of an ablation and write its tables; returns how its sweep stands.

    Raises:
        RunError: its folder cannot be written, or another process runs it.
        Interrupted: a signal ended it; the tables hold what was done.
    """
    verb, *words = planned.ablation.verb.split()
    make_folder(planned.folder)
    remember(planned)
    return run_in(
        planned.folder,
        verb,
        planned.jobs,
        swept=swept(planned.jobs),
        overrides=[planned.ablation.name, f"budget={planned.budget.name}", *planned.typed],
        launch=launch,
        config_dir=config_dir,
        words=words,
        root=planned.root,
        only=True,
    )


def remember(planned: Planned) -> None:
    """Write `ablation.json` into the sweep's folder: all that its table needs, whatever becomes of the YAML file."""
    a = planned.ablation
    published = {**a.published}
    if published:
        published["values"] = [[*place, value] for place, value in a.published["values"].items()]
    facts = {
        "name": a.name,
        "description": a.description,
        "budget": planned.budget.name,
        "axes": a.axes,
        "default": list(a.default),
        "metrics": {q.name: q.metric for q in a.questions},
        "also": a.also,
        "curve": a.curve,
        "published": published,
        "cells": [{k: v for k, v in asdict(c).items() if k != "jobs"} | {"ids": c.ids} for c in planned.cells],
    }
    write_atomic(planned.folder / "ablation.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def swept(jobs: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Return the keys whose values differ between jobs, with these values: they name the jobs in lines and tables."""
    found: dict[str, list[str]] = {}
    for job in jobs:
        for key, _, value in (text.partition("=") for text in job):
            found.setdefault(key, []).append(value)
    differ = {k: list(dict.fromkeys(v)) for k, v in found.items()}
    return {k: v for k, v in differ.items() if len(v) > 1 or len(found[k]) < len(jobs)}


def estimate(planned: Planned, processes: int) -> dict[str, Any]:
    """Return the number of jobs, how many are done, and about how long the rest takes.

    The time of a job is the mean of its cell's finished jobs, else of its question's, else what the file states.

    Returns:
        `rows`, one a question: question, cells, seeds, jobs, finished, failed, left, seconds (a job), from; and the
        totals: jobs, finished, failed, left, seconds (of all that is left, on `processes` at a time), folder.
    """
    state = planned.state
    known = {job.id: job for job in state.jobs}
    rows: list[dict[str, Any]] = []
    total = 0.0
    for question in planned.ablation.questions:
        cells = [cell for cell in planned.cells if cell.question == question.name and not cell.why]
        mine = [[known.get(ident) for ident in cell.ids] for cell in cells]
        everywhere = _measured([job for jobs in mine for job in jobs], planned.folder)
        stated = planned.budget.seconds[question.name]
        left = []
        for jobs in mine:
            each = _measured(jobs, planned.folder) or everywhere or stated
            left += [each for job in jobs if job is None or job.status not in ("finished", "failed")]
        total += sum(left)
        flat = [job.status if job is not None else "pending" for jobs in mine for job in jobs]
        done, failed = flat.count("finished"), flat.count("failed")
        rows.append(
            {
                "question": question.name,
                "cells": len(cells),
                "seeds": max((len(cell.jobs) for cell in cells), default=0),
                "jobs": len(flat),
                "finished": done,
                "failed": failed,
                "left": len(left),
                "seconds": everywhere or stated,
                "from": f"{done} finished jobs" if everywhere else f"stated in {planned.ablation.file}",
            }
        )
    sums = {key: sum(row[key] for row in rows) for key in ("jobs", "finished", "failed", "left")}
    return {
        "rows": rows,
        **sums,
        "seconds": total / max(1, min(processes, sums["left"])),
        "folder": str(planned.folder),
    }


def in_words(estimated: dict[str, Any], processes: int) -> str:
    """Return the estimate as a line: `12 cells x 3 seeds = 36 jobs · 9 done before, 27 to run · about 14 min on 2
    processes`.
    """
    parts = " + ".join(
        f"{row['cells']} cells x {row['seeds']} seed{'s' * (row['seeds'] != 1)}" for row in estimated["rows"]
    )
    before = f"{estimated['finished']} done before, " if estimated["finished"] else ""
    failed = f"{estimated['failed']} failed before, " if estimated["failed"] else ""
    where = f"{processes} processes" if processes > 1 else "1 process"
    left = f" · about {seconds(estimated['seconds'])} on {where}" if estimated["left"] else ""
    return f"{parts} = {estimated['jobs']} jobs · {before}{failed}{estimated['left']} to run{left}"


def _measured(jobs: Sequence[Job | None], folder: Path) -> float | None:
    """Return the mean seconds of the finished jobs, as the sweep measured them, else (the sweep was killed) as their
    runs did; None where none is finished.
    """
    done = [job for job in jobs if job is not None and job.status == "finished"]
    found = [job.seconds or read_record(folder / job.name).cost.get("seconds") for job in done]
    known = [seconds for seconds in found if seconds]
    return sum(known) / len(known) if known else None
