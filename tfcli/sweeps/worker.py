"""Fork the jobs of a sweep from one process that has imported everything, in place of importing it in each.

`multiprocessing`'s forkserver is not enough: its children import the caller's `__main__` again, take the environment
of its first use, end without `atexit`, and it is ended by a closed terminal, with the exit codes of its children.

`Worker` is the sweep's side. The process itself (`main`) only imports before it forks: it has no pool of threads, no
random numbers and no module of the user, so that a child is what `python -m tfcli` would be after its imports.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tfcli.engine.config.compose import compose
from tfcli.engine.runs import signals, terminal
from tfcli.errors import TfcliError

JOBS = ("tfcli.cli.app", "tfcli.cli.closing", "tfcli.data.module", "tfcli.tasks.classify", "sklearn.linear_model")
PRELOADED = {
    "train": ("tfcli.engine.train.run", *JOBS, "sklearn.datasets"),
    "probe": ("tfcli.engine.probe.probe", *JOBS),
}
"""Modules to import before a job, by the primary config of its verb; what else it needs it imports itself."""

TICK_S = 0.1
MESSAGE = 1 << 20  # bytes, at most


class Forked:
    """A job that the worker has forked, with the part of `Popen`'s interface that a sweep uses.

    Attributes:
        lost: the worker is gone, and has taken the job's exit code with it; the job was asked to save and end.
    """

    def __init__(self, pid: int, worker: Worker):
        self.pid, self.worker, self.lost = pid, worker, False
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for the signal that killed it; None while it runs."""
        self.worker.receive()
        if self.returncode is None and self.worker.gone and not _lives(self.pid):
            self.returncode, self.lost = 128 + signal.SIGTERM, True
        return self.returncode

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        while (code := self.poll()) is None:
            time.sleep(TICK_S)
        return code

    def send_signal(self, signum: int) -> None:
        """Send a signal to it, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)


def _lives(pid: int) -> bool:
    """Return whether a process runs. One that has ended and only waits to be reaped has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


class Worker:
    """A process that imports what a job needs and then forks a child for each; it ends with the sweep's process.

    Args:
        primary: name of the primary config of the jobs' verb, `train` or `probe`.
        environment: of all jobs.

    Attributes:
        ready: whether it has imported everything.
        gone: whether it has ended, for instance because an import failed; jobs are then started without it.
    """

    def __init__(self, primary: str, environment: Mapping[str, str]):
        self.ready = self.gone = False
        self.jobs: dict[int, Forked] = {}
        self.forked: Forked | None = None
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), primary],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what fails here fails again in a job that is started without it
                env=environment,
                process_group=0,
            )

    def fork(self, words: Sequence[str], log: IO[bytes], name: str) -> Forked | None:
        """Start `tfcli WORDS` in a child that writes to `log`; None where the worker is gone.

        Args:
            name: by which `ps` and `state.settle` know the process.
        """
        self.forked = None
        try:
            socket.send_fds(self.channel, [json.dumps({"words": list(words), "name": name}).encode()], [log.fileno()])
        except OSError:
            self.gone = True
        while self.forked is None and not self.gone:
            self.receive(TICK_S)
        return self.forked

    def receive(self, timeout_s: float = 0.0) -> None:
        """Take in what the worker has reported. May be called by a signal's handler while it runs."""
        while not self.gone and select.select([self.channel], [], [], timeout_s)[0]:
            timeout_s = 0.0
            try:
                message = self.channel.recv(MESSAGE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionError:
                message = b""
            if not message:
                self.gone = True
                return
            self._take(json.loads(message))

    def _take(self, report: dict[str, int]) -> None:
        if "code" in report:
            self.jobs.pop(report["pid"]).returncode = report["code"]
        elif "pid" in report:
            self.forked = self.jobs[report["pid"]] = Forked(report["pid"], self)
        else:
            self.ready = True

    def close(self) -> None:
        """End the process; a job that still runs is told to save and end."""
        self.channel.close()
        self.process.kill()
        self.process.wait()
        self.gone = True


def main() -> None:
    """Import, then fork a child for each request until the sweep is gone. A child becomes its job."""
    signals.die_with_parent(signal.SIGKILL)
    terminal.make_streams_resilient()
    channel, primary = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    with signals.handling(lambda *_: None):  # the sweep alone ends its jobs
        for name in PRELOADED[primary]:
            importlib.import_module(name)
        with suppress(TfcliError):  # a job says what is wrong
            compose(primary, [])  # fills Hydra's caches, and ours of signatures
        gc.collect()
        gc.freeze()  # a collection in a child leaves these pages alone, so that they stay shared
        prepared_s = time.monotonic() - signals.BEGAN
        channel.send(b"{}")
        request = _serve(channel)
    if request is None:
        os._exit(0)
    channel.close()
    signals.BEGAN = time.monotonic() - prepared_s  # as if this process had imported it all
    _become(**request)


def _serve(channel: socket.socket) -> dict[str, Any] | None:
    """Fork a child for each request, and report how it ends.

    Returns:
        in a child its request; in the worker None, when the sweep is gone.
    """
    parent, running = os.getpid(), set[int]()
    with suppress(ConnectionError):
        while True:
            if select.select([channel], [], [], TICK_S if running else None)[0]:
                message, handles, *_ = socket.recv_fds(channel, MESSAGE, 1)
                if not message:
                    return None
                pid = os.fork()
                if not pid:
                    return {**json.loads(message), "log": handles[0], "parent": parent}
                os.close(handles[0])
                with suppress(ProcessLookupError):
                    os.setpgid(pid, pid)
                running.add(pid)
                channel.send(json.dumps({"pid": pid}).encode())
            while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                running.discard(ended[0])
                code = os.waitstatus_to_exitcode(ended[1])
                channel.send(json.dumps({"pid": ended[0], "code": code}).encode())
    return None


def _become(words: Sequence[str], name: str, log: int, parent: int) -> None:
    """Run `tfcli WORDS` in this child as `python -m tfcli` would, with a process group and a log of its own."""
    import numpy as np

    os.setpgid(0, 0)
    signals.die_with_parent(signal.SIGTERM)  # it saves and ends, and nothing runs unseen
    if os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name, encoding="ascii")
    np.random.seed()  # Python does so itself for `random`
    importlib.invalidate_caches()
    sys.argv[1:] = words
    runpy.run_module("tfcli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
