"""Sweeps: a list of jobs run in a folder of its own, begun or continued; and one from the words of a command line."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfcli.engine import terminal
from tfcli.engine.compose import compose
from tfcli.engine.session import check_writable, link_latest, locked, safe
from tfcli.engine.subject import NEUTRAL
from tfcli.errors import Interrupted, RunError
from tfcli.sweeps.expand import Grid, expand, job_id
from tfcli.sweeps.local import Local
from tfcli.sweeps.pool import Listed, Pool
from tfcli.sweeps.process import TFCLI
from tfcli.sweeps.state import State, read_state
from tfcli.sweeps.suite import write_suite
from tfcli.sweeps.table import write_tables

TABLES = dict.fromkeys(("probe", "zeroshot", "linear", "knn"), write_suite)
"""Verbs whose sweeps have a table of their own kind."""


@dataclass(frozen=True)
class Launch:
    """How the jobs of a sweep are run.

    Attributes:
        jobs: how many at a time.
        fail_fast: at the first job that fails, start no more and stop the running ones.
        retry: run the failed jobs anew as well.
        command: how the program is started.
    """

    jobs: int = 1
    fail_fast: bool = False
    retry: bool = False
    command: Sequence[str] = TFCLI


def run_in(
    folder: Path,
    verb: str,
    jobs: Sequence[Sequence[str]],
    *,
    swept: dict[str, list[str]],
    overrides: Sequence[str] = (),
    launch: Launch = Launch(),
    config_dir: str | None = None,
    config_name: str | None = None,
    words: Sequence[str] = (),
    root: Path | str,
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

    Returns:
        how it ended. Failed jobs are no error here: see `State.count`.

    Raises:
        RunError: the folder cannot be written, or another process runs this sweep.
        Interrupted: Ctrl-C or SIGTERM; the running jobs have saved and ended, the rest is pending.
    """
    check_writable(folder)
    with locked(folder):
        known = (folder / "sweep.json").exists()
        state = (
            read_state(folder) if known else State(verb, list(overrides), {}, [], time.strftime("%Y-%m-%dT%H:%M:%S%z"))
        )
        before = len(state.jobs)
        added = state.add(jobs, swept)
        state.words, state.config_dir, state.config_name, state.root = list(words), config_dir, config_name, str(root)
        state.write(folder)
        if known:
            more = f", {added} added" if added else ""
            terminal.say(f"goes on: {state.count('finished')} of {before} jobs finished{more} · {folder}")
        _run(state, folder, launch)
    return state


def _run(state: State, folder: Path, launch: Launch) -> None:
    """Run the jobs that are left and write the tables."""
    for job in state.jobs:
        if job.status == "running" and job.host != socket.gethostname():
            job.status = "interrupted"  # we hold the sweep's lock: whoever ran it there is gone, and its jobs with it
    left = ("pending", "interrupted", "failed") if launch.retry else ("pending", "interrupted")
    launcher = Local(state, folder, jobs=launch.jobs, command=launch.command)
    root = Path(str(state.root))
    pool = Pool(
        state,
        folder,
        launcher,
        fail_fast=launch.fail_fast,
        told=lambda job: link_latest(root, folder / job.name),
    )
    pool.run(Listed([job for job in state.jobs if job.status in left]))
    TABLES.get(state.verb, write_tables)(folder, state)
    if pool.signum:
        rest = len(state.jobs) - state.count("finished", "failed")
        raise Interrupted(pool.signum, f"stopped: {state.count('finished')} jobs finished, {rest} left · {folder}")


def run_sweep(
    verb: str,
    overrides: list[str],
    root: Path | str | None = None,
    *,
    launch: Launch = Launch(),
    new: bool = False,
    config_dir: str | None = None,
    config_name: str | None = None,
    words: Sequence[str] = (),
) -> Path:
    """Run every combination of the values in `overrides`, and write the sweep's table.

    Where the newest sweep of these very jobs is not all finished, it is continued.

    Args:
        verb: what each job does, for instance `train`.
        overrides: as typed, several values in some.
        root: the folder of all runs (None: the config's `run.root`); the sweep's is ROOT/sweep/VERB-MODEL-DATA/TIME-ID.
        launch: how the jobs are run.
        new: a new sweep in any case.
        config_dir, config_name: Hydra's `--config-dir` and `--config-name`, passed on to the jobs.
        words: what each job is given before its settings: a run.

    Returns:
        the sweep's folder.

    Raises:
        ConfigError: no grid, or one of its values is unknown to the config; nothing was started.
        RunError: the folder cannot be written, or another process runs this sweep.
        Interrupted: a signal ended it.
    """
    grid = expand(overrides)
    primary = "probe" if verb in TABLES else "train"
    pair, configured = _check(grid, config_name or primary, config_dir, run=words[0] if words else None)
    root = Path(root or configured)
    parent, ident = root / "sweep" / safe(f"{verb}-{pair}"), job_id([job_id(job) for job in grid.jobs])
    folder = None if new else _unfinished(parent, ident)
    if folder is None:
        folder = _new_folder(parent, ident)
        repeated = f" ({grid.repeated} repeated left out)" if grid.repeated else ""
        terminal.say(f"sweep of {len(grid.jobs)} jobs{repeated} · {folder}")
    run_in(
        folder,
        verb,
        grid.jobs,
        swept=grid.swept,
        overrides=overrides,
        launch=launch,
        config_dir=config_dir,
        config_name=config_name,
        words=words,
        root=root,
    )
    return folder


def _unfinished(parent: Path, ident: str) -> Path | None:
    """The newest sweep of these jobs, unless all of them are finished."""
    found = [f for f in parent.glob(f"*-{ident}*") if (f / "sweep.json").exists()]
    if not found:
        return None
    newest = max(found, key=lambda f: (f.name[:15], len(f.name), f.name))
    state = read_state(newest)
    return None if state.count("finished") == len(state.jobs) else newest


def _check(grid: Grid, primary: str, config_dir: str | None, *, run: str | None = None) -> tuple[str, str]:
    """Compose the first job, and once each further value that is a word: a slip stops the sweep before it starts.

    Args:
        run: whose model each job takes in place of the config's.

    Returns MODEL-DATA, the options of a swept group joined by `+`, and the folder of all runs as configured.
    """
    neutral = [NEUTRAL] if run else []
    composed = compose(primary, [*neutral, *grid.jobs[0]], config_dir)
    for key, values in grid.swept.items():
        for value in values[1:]:
            if not _is_number(value):
                job = [f"{key}={value}" if text.partition("=")[0] == key else text for text in grid.jobs[0]]
                compose(primary, [*neutral, *job], config_dir)
    parts = []
    for group in ("model", "data"):
        names = grid.swept.get(group) or [composed.choices.get(group, group)]
        typed = [t.partition("=")[2] for t in grid.jobs[0] if t.startswith(f"{group}=")]
        joined = "+".join(names) if group in grid.swept else (typed or names)[0]
        joined = Path(run).name if run and group == "model" else joined
        parts.append(joined if len(joined) <= 32 else f"{len(names)}-{group}s")
    return "-".join(parts), composed.config.run.root


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _new_folder(parent: Path, ident: str) -> Path:
    check_writable(parent)
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{ident}"
    for i in range(1, 1000):
        folder = parent / (stem if i == 1 else f"{stem}-{i}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise RunError(f"`{parent}` has a thousand sweeps of this second.")
