"""Run one job of a sweep as a process: its command, how it is stopped, and the state that it ends in."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from tfcli.engine.config import moved
from tfcli.engine.config.configs import options
from tfcli.engine.runs.folder import RUN_DIR
from tfcli.engine.runs.format import number
from tfcli.engine.runs.record import Record, readable_records
from tfcli.engine.runs.signals import CODES, die_with_parent
from tfcli.engine.runs.summary import main_metric
from tfcli.sweeps.state import Job, State, settle
from tfcli.sweeps.worker import Forked, Worker

TFCLI = (sys.executable, "-m", "tfcli")


class Process:
    """The process of a job, from its start until its end is recorded.

    Args:
        job: becomes `running`, and in the end finished, failed or interrupted; its file follows.
        state: the sweep's.
        folder: the sweep's.
        command: how the program is started.
        environment: what this job has besides our own environment; None takes a variable away.
        worker: forks the process, with the environment that it has itself; None, or one that is gone: it is started.
    """

    def __init__(
        self,
        job: Job,
        state: State,
        folder: Path,
        *,
        command: Sequence[str] = TFCLI,
        environment: Mapping[str, str | None] | None = None,
        worker: Worker | None = None,
    ):
        self.job, self.folder, self.signum = job, folder, 0
        self.run, self.log = folder / job.name, folder / f"{job.name}.log"
        words = command_words(job, state, self.run)
        job.status, job.error, job.exit_code, job.seconds = "running", None, None, None
        job.pid, job.host, job.started = None, socket.gethostname(), time.time()
        job.write(folder)
        self.begun = time.monotonic()
        with open(self.log, "ab") as file:
            forked = worker.fork(words, file, job.name) if worker else None
            self.process: Forked | subprocess.Popen[bytes] = forked or subprocess.Popen(
                [*command, *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=job_environment(folder, environment or {}),
                process_group=0,  # a Ctrl-C at the terminal reaches us alone, and we pass it on once
                preexec_fn=partial(die_with_parent, signal.SIGTERM),  # it saves and ends, and nothing runs unseen
            )
        job.pid = self.process.pid
        job.write(folder)

    @property
    def lost(self) -> bool:
        return isinstance(self.process, Forked) and self.process.lost

    def poll(self) -> bool:
        """Return whether the process has ended; then the job and its file say how."""
        code = self.process.poll()
        if code is None:
            return False
        if self.job.status == "running":
            self._end(code)
        return True

    def wait(self) -> None:
        """Wait for its end."""
        self.process.wait()
        self.poll()

    def stop(self, signum: int, *, at_once: bool = False) -> None:
        """Pass a signal on, so that it saves and ends; `at_once` kills it with its children."""
        self.signum = signum
        with suppress(ProcessLookupError):
            if at_once:
                os.killpg(self.process.pid, signal.SIGKILL)
            elif self.process.poll() is None:
                self.process.send_signal(signum)

    def cancel(self) -> None:
        """Ask it to save and end."""
        self.stop(signal.SIGTERM)

    def _end(self, code: int) -> None:
        job = self.job
        job.exit_code, job.seconds, job.pid = code, round(time.monotonic() - self.begun, 3), None
        status = next((record.status for record in _written(self.run)), None)
        if status == "finished":  # a signal may have come after that
            job.status = "finished"
        elif self.signum or code in CODES or status == "interrupted":
            job.status = "interrupted"
        else:
            job.status, job.error = "failed", reason(self.run, self.log, code)
        settle(job, self.folder)
        job.write(self.folder)


def command_words(job: Job, state: State, run: Path) -> list[str]:
    """Return the verb and its words: on from a checkpoint where the last attempt left one, else from the start.

    A failed job goes on only where its training was done, in its test or figures; a failed training would fail again.
    What another attempt left is removed, its log apart: a run folder holds one run.
    """
    trained = job.status != "failed" or any(record.checkpoint for record in _written(run))
    if state.verb == "train" and trained and (run / "config.yaml").exists() and any(run.glob("checkpoints/*.ckpt")):
        return ["resume", str(run)]
    remove_attempt(run)
    words = [state.verb]
    words += ["--config-dir", state.config_dir] if state.config_dir else []
    words += ["--config-name", state.config_name] if state.config_name else []
    typed = moved.overrides(job.overrides, lambda group: options(group, state.config_dir))
    return [*words, *state.words, *typed, f"run.dir={quote(str(run))}"]


def remove_attempt(run: Path) -> None:
    """Remove what an attempt left in a run folder."""
    if run.exists():
        shutil.rmtree(run)


def job_environment(folder: Path, changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return the environment of a sweep's job: ours with `changes`, where None takes a variable away."""
    environment = {k: v for k, v in os.environ.items() if k != RUN_DIR}
    environment.setdefault("WANDB_RUN_GROUP", folder.name)
    for name, value in changes.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    return environment


def _written(run: Path) -> list[Record]:
    """Return the record that a run has left, if it has, and if it can be read."""
    return [record for _, record in readable_records([run] if (run / "results.json").exists() else [])]


def quote(text: str) -> str:
    """Return `text` quoted so that Hydra's grammar takes it as it stands."""
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    return text if text.replace("/", "").replace("-", "").replace("_", "").replace(".", "").isalnum() else f"'{plain}'"


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty, without control sequences."""
    lines = _tail(log)
    return lines[-1] if lines else ""


def _tail(log: Path) -> list[str]:
    if not log.exists():
        return []
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
        text = file.read().decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.replace("\r", "\n").split("\n")]
    return ["".join(c for c in line if c.isprintable()) for line in lines if line]


def reason(run: Path, log: Path, exit_code: int) -> str:
    """Return why a job failed: its record's error, else the signal that killed it, else its last message."""
    for record in _written(run):
        if record.error:
            return record.error
    lines = _tail(log)
    message = next((line.removeprefix("tfcli: ") for line in reversed(lines) if line.startswith("tfcli: ")), None)
    if exit_code < 0:  # what it said before may be of an earlier attempt
        name = signal.Signals(-exit_code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return message or (lines[-1] if lines else f"exit code {exit_code}, and it said nothing")


def score(run: Path) -> str:
    """Return the main figure of a finished run in words; empty where there is none."""
    for record in _written(run):
        if name := main_metric(record):
            return f"{name} {number(record.metrics[name])}"
    return ""
