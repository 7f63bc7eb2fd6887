"""A sweep on this machine: one job after the other, each its own process with its own run folder and log."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tfcli.engine import terminal
from tfcli.engine.compose import compose
from tfcli.engine.record import read_record
from tfcli.engine.session import RUN_DIR, check_writable, link_latest, safe
from tfcli.engine.signals import handling
from tfcli.engine.subject import NEUTRAL
from tfcli.engine.summary import main_metric
from tfcli.engine.tables import number, seconds
from tfcli.errors import Interrupted, RunError
from tfcli.sweeps.expand import Grid, expand, job_id
from tfcli.sweeps.state import Job, State
from tfcli.sweeps.suite import write_suite
from tfcli.sweeps.table import write_tables

TFCLI = (sys.executable, "-m", "tfcli")
TABLES = dict.fromkeys(("probe", "zeroshot", "linear", "knn"), write_suite)
"""Verbs whose sweeps have a table of their own kind."""


def run_sweep(
    verb: str,
    overrides: list[str],
    root: Path | str | None = None,
    fail_fast: bool = False,
    *,
    config_dir: str | None = None,
    config_name: str | None = None,
    words: Sequence[str] = (),
    command: Sequence[str] = TFCLI,
) -> Path:
    """Run every combination of the values in `overrides`, and write the sweep's table.

    A job that fails does not stop the others; `tfcli.sweeps.state.read_state` says which did. Ctrl-C and SIGTERM are
    passed on to the running job, which saves and ends; the jobs after it stay pending.

    Args:
        verb: what each job does, for instance `train`.
        overrides: as typed, several values in some.
        root: the folder of all runs (None: the config's `run.root`); the sweep's is ROOT/sweep/VERB-MODEL-DATA/TIME-ID.
        fail_fast: start no job after one that failed.
        config_dir, config_name: Hydra's `--config-dir` and `--config-name`, passed on to the jobs.
        words: what each job is given before its settings: a run.
        command: how the program is started.

    Returns:
        the sweep's folder: sweep.json, table.{md,csv,json}, and a run folder and a log a job.

    Raises:
        ConfigError: no grid, or one of its values is unknown to the config; nothing was started.
        RunError: the folder cannot be written.
        Interrupted: a signal ended it.
    """
    grid = expand(overrides)
    primary = "probe" if verb in TABLES else "train"
    pair, configured = _check(grid, config_name or primary, config_dir, run=words[0] if words else None)
    root = Path(root or configured)
    state = State(
        verb=verb,
        overrides=list(overrides),
        swept=grid.swept,
        jobs=[Job(i, job_id(job), job) for i, job in enumerate(grid.jobs, 1)],
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )
    folder = _new_folder(root / "sweep" / safe(f"{verb}-{pair}"), [job.id for job in state.jobs])
    state.write(folder)
    repeated = f" ({grid.repeated} repeated left out)" if grid.repeated else ""
    terminal.say(f"sweep of {len(state.jobs)} jobs{repeated} · {folder}")
    start = [*command, verb]
    start += ["--config-dir", config_dir] if config_dir else []
    start += ["--config-name", config_name] if config_name else []
    run_jobs(state, folder, command=[*start, *words], fail_fast=fail_fast, root=root)
    return folder


def run_jobs(state: State, folder: Path, *, command: Sequence[str], fail_fast: bool = False, root: Path) -> None:
    """Run the jobs of a sweep that are not finished yet, in order, and write the tables.

    Raises:
        Interrupted: a signal came; the running job has ended, the state is written.
    """
    with _Relay().listening() as relay:
        for job in state.jobs:
            if job.status == "finished":
                continue
            _run(job, state, folder, command, relay)
            if job.status == "finished":
                link_latest(root, folder / job.name)
            if relay.signum or (fail_fast and job.status == "failed"):
                break
    TABLES.get(state.verb, write_tables)(folder, state)
    if relay.signum:
        left = len(state.jobs) - state.count("finished") - state.count("failed")
        raise Interrupted(relay.signum, f"stopped: {state.count('finished')} jobs finished, {left} left · {folder}")


def _run(job: Job, state: State, folder: Path, command: Sequence[str], relay: _Relay) -> None:
    """Run one job to its end and write down how it ended."""
    run, log = folder / job.name, folder / f"{job.name}.log"
    label = (
        f"{job.number}/{len(state.jobs)}  {' '.join(o for o in job.overrides if o.partition('=')[0] in state.swept)}"
    )
    job.status = "running"
    state.write(folder)
    begin = time.monotonic()
    environment = {k: v for k, v in os.environ.items() if k != RUN_DIR}
    environment.setdefault("WANDB_RUN_GROUP", folder.name)
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [*command, *job.overrides, f"run.dir={quoted(str(run))}"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            process_group=0,  # a Ctrl-C at the terminal reaches us alone, and we pass it on once
            preexec_fn=_die_with_parent,
        )
        relay.process = process
        if relay.signum:  # it came while the process was being made
            process.send_signal(relay.signum)
        while True:
            try:
                job.exit_code = process.wait(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                terminal.status(f"{label}  {seconds(time.monotonic() - begin)}  {last_line(log)}")
    relay.process = None
    job.seconds = round(time.monotonic() - begin, 3)
    if job.exit_code == 0:
        job.status, job.error = "finished", None
    elif relay.signum:
        job.status, job.error = "interrupted", None
    else:
        job.status, job.error = "failed", _reason(run, log, job.exit_code)
    state.write(folder)
    terminal.status("")
    terminal.say(f"{label}  {job.status}  {seconds(job.seconds)}  {job.error or _score(run)}".rstrip())


class _Relay:
    """Passes Ctrl-C and SIGTERM on to the running job; kills it at the third."""

    def __init__(self) -> None:
        self.signum = 0
        self.count = 0
        self.process: subprocess.Popen | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.signum, self.count = signum, self.count + 1
        if self.process is None or self.process.poll() is not None:
            return
        if self.count < 3:
            self.process.send_signal(signum)
        else:
            os.killpg(self.process.pid, signal.SIGKILL)

    @contextmanager
    def listening(self) -> Iterator[_Relay]:
        with handling(self):
            yield self


def _die_with_parent() -> None:
    """Ask Linux to send the job SIGTERM when this process is killed: it saves and ends, and nothing runs unseen."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


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


def _new_folder(parent: Path, ids: list[str]) -> Path:
    check_writable(parent)
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{job_id(ids)}"
    for i in range(1, 1000):
        folder = parent / (stem if i == 1 else f"{stem}-{i}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise RunError(f"`{parent}` has a thousand sweeps of this second.")


def quoted(text: str) -> str:
    """`text` as a value that Hydra's grammar takes as it stands."""
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    return text if text.replace("/", "").replace("-", "").replace("_", "").replace(".", "").isalnum() else f"'{plain}'"


def last_line(log: Path) -> str:
    """The last line in a log that says something, without control sequences."""
    lines = _tail(log)
    return lines[-1] if lines else ""


def _tail(log: Path) -> list[str]:
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
        text = file.read().decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.replace("\r", "\n").split("\n")]
    return ["".join(c for c in line if c.isprintable()) for line in lines if line]


def _reason(run: Path, log: Path, exit_code: int) -> str:
    """Why a job failed: its record's error, else what it said last, else the signal that killed it."""
    if (run / "results.json").exists() and (error := read_record(run).error):
        return error
    lines = _tail(log)
    said = next((line.removeprefix("tfcli: ") for line in reversed(lines) if line.startswith("tfcli: ")), None)
    if exit_code < 0 and not said:
        name = signal.Signals(-exit_code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return said or (lines[-1] if lines else f"exit code {exit_code}, and it said nothing")


def _score(run: Path) -> str:
    if not (run / "results.json").exists():
        return ""
    record = read_record(run)
    name = main_metric(record)
    return f"{name} {number(record.metrics[name])}" if name else ""
