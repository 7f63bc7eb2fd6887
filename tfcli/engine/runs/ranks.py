"""Start, watch and end the ranks of a run on this machine. Imports no torch.

The process that the user has started is rank 0 and the parent of the others. The ranks share their status in memory, so
that it knows the progress of each and why one failed, even while their main threads hang in a collective.
"""

from __future__ import annotations

import math
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from tfcli.engine.runs import signals
from tfcli.engine.runs.signals import CODES, PARENT, WORDS
from tfcli.errors import ConfigError, Interrupted, TfcliError

SHARED_STATUS = "TFCLI_BOARD"
NOTICE_S = 5.0  # for rank 0 to notice by itself that another one is gone
REPORT_S = 3.0  # for the others to say why, when a collective of rank 0 has failed
ENDING_S = 15.0  # for the others to end by themselves when all is done


class Stage(IntEnum):
    """Stages of a rank, in order."""

    START = 0
    MEETING_OF_THE_RANKS = 1
    FORWARD_PASS = 2
    BACKWARD_PASS = 3
    OPTIMIZER_STEP = 4
    LOADING_OF_THE_NEXT_BATCH = 5
    VALIDATION = 6
    TEST = 7

    def __str__(self) -> str:
        return self.name.replace("_", " ").lower()


class Cluster(Protocol):
    """The part of Lightning's ClusterEnvironment that is used here."""

    creates_processes_externally: bool
    main_address: str
    main_port: int

    def node_rank(self) -> int: ...


class SharedStatus:
    """Memory that the ranks of a machine share: a slot for each rank, which it alone writes.

    Args:
        handle: the file behind it.
        rank: this process's rank, which chooses its slot.
    """

    PLACE, HEAD = 4096, struct.Struct("<qqidi")  # beats, batch, stage; time of its failure, exit code

    def __init__(self, handle: int, rank: int):
        self.memory = mmap.mmap(handle, os.fstat(handle).st_size)
        self.rank = rank
        self.beats = self.batch = 0

    @classmethod
    def here(cls) -> SharedStatus | None:
        """Return the shared status that this rank was given; None where it was given none."""
        if SHARED_STATUS not in os.environ:
            return None
        with suppress(OSError, ValueError):  # of a process that started us for something else
            return cls(int(os.environ[SHARED_STATUS]), int(os.environ.get("LOCAL_RANK", 0)))
        return None

    def beat(self, stage: Stage) -> None:
        """Report that this rank goes on, and in which stage."""
        self.beats += 1
        self.batch += stage == Stage.FORWARD_PASS
        self.memory[self._head()] = self.HEAD.pack(self.beats, self.batch, stage, math.inf, 0)

    def report_failure(self, code: int, reason: str) -> None:
        """Report why this rank ends. The first reason counts."""
        beats, batch, stage, when, _ = self.read(self.rank)
        if when == math.inf or not when:
            text = reason.encode()[: self.PLACE - self.HEAD.size - 1]
            start = self._head().stop
            self.memory[start : start + len(text) + 1] = text + b"\0"
            self.memory[self._head()] = self.HEAD.pack(beats, batch, stage, time.monotonic(), code)

    def _head(self, rank: int | None = None) -> slice:
        start = (self.rank if rank is None else rank) * self.PLACE
        return slice(start, start + self.HEAD.size)

    def read(self, rank: int) -> tuple[int, int, int, float, int]:
        """Return a rank's beats, batch, stage, the time of its failure (0 or infinite: none) and its exit code."""
        return self.HEAD.unpack(self.memory[self._head(rank)])

    def reason(self, rank: int) -> str:
        """Return why a rank failed."""
        start = self._head(rank)
        return self.memory[start.stop : start.start + self.PLACE].partition(b"\0")[0].decode(errors="replace")


class Ranks:
    """The ranks of this machine, of which this process is the first.

    Args:
        cluster: Lightning's description.
        count: how many there are here.
        nodes: on how many machines.
        timeout_s: the longest time without progress on any rank, before the run is ended.

    Raises:
        ConfigError: `MASTER_PORT` is taken.
    """

    def __init__(self, cluster: Cluster, count: int, *, nodes: int, timeout_s: float):
        self.timeout_s, self.before = timeout_s, dict(os.environ)
        given = os.environ.get("MASTER_PORT")
        if given and not cluster.node_rank():
            check_free(given)
        with tempfile.TemporaryFile() as file:
            file.truncate(count * SharedStatus.PLACE)
            self.shared = SharedStatus(file.fileno(), 0)
            os.environ |= {
                "MASTER_ADDR": cluster.main_address,
                "MASTER_PORT": str(cluster.main_port),
                "NODE_RANK": str(cluster.node_rank()),
                "LOCAL_RANK": "0",
                "WORLD_SIZE": str(count * nodes),
            }
            own = {PARENT: str(os.getpid()), SHARED_STATUS: str(file.fileno())}
            self.others = [
                subprocess.Popen(
                    _command(),
                    env={**os.environ, **own, "LOCAL_RANK": str(rank)},
                    pass_fds=[file.fileno()],
                    process_group=0,  # a Ctrl-C at the terminal reaches rank 0 alone, with whom the others agree
                    stdin=subprocess.DEVNULL,
                )
                for rank in range(1, count)
            ]
        self.seen: list[tuple[int, ...]] = []
        self.moved = time.monotonic() + preparation_s()
        self.failed_at: float | None = None

    def trouble(self) -> tuple[int, str] | None:
        """Return the exit code and the reason to end, where a rank is gone or hangs unnoticed; else None."""
        now = time.monotonic()
        codes = [other.poll() for other in self.others]
        if any(codes):
            self.failed_at = self.failed_at or now
            if now - self.failed_at > NOTICE_S:
                error = self.cause(None)
                return (error.exit_code, str(error)) if error else None
        seen = [self.shared.read(rank)[:3] for rank in range(len(codes) + 1)]
        if seen != self.seen or all(code == 0 for code in codes):
            self.seen, self.moved = list(seen), max(self.moved, now)
        if now - self.moved > self.timeout_s:
            return 1, self._hanging()
        return None

    def _hanging(self) -> str:
        """Name the ranks that are behind, of these the stopped ones where some are, and say where each is."""
        places = {rank: self.shared.read(rank)[1:3] for rank in range(len(self.others) + 1)}
        last = min(places.values())
        behind = [rank for rank, place in places.items() if place == last]
        behind = [rank for rank in behind if rank and _state(self.others[rank - 1].pid) in ("T", "D")] or behind
        names = f"rank {behind[0]} hangs" if len(behind) == 1 else f"ranks {', '.join(map(str, behind))} do not go on"
        where = "; ".join(f"rank {rank}: batch {batch}, {Stage(stage)}" for rank, (batch, stage) in places.items())
        return f"{names}: no rank has come further for {self.timeout_s:.0f} s (`trainer.timeout_s`). {where}."

    def cause(self, own: BaseException | None) -> TfcliError | None:
        """Return the error of the rank that failed first; None where that was this one, with the error `own`.

        Args:
            own: the error of rank 0, which may only be that the others have left. None: it does not know.
        """
        if isinstance(own, TfcliError):
            return None
        end = time.monotonic() + (REPORT_S if own is None or isinstance(own, RuntimeError) else 0)
        while True:
            reports = [(self.shared.read(rank)[3], rank) for rank in range(len(self.others) + 1)]
            reports = [(when, rank) for when, rank in reports if 0 < when < math.inf]
            gone = [rank for rank, other in enumerate(self.others, 1) if other.poll()]
            if any(rank for _, rank in reports) or gone or time.monotonic() > end:
                break
            time.sleep(0.05)
        silent = [rank for rank in gone if all(rank != other for _, other in reports)]
        if silent and (own is None or isinstance(own, RuntimeError)):
            return _ended(silent[0], self.others[silent[0] - 1].returncode)
        first = min(reports, default=(0.0, 0))[1]
        return _as_error(first, self.shared.read(first)[4], self.shared.reason(first)) if first else None

    def end(self, *, at_once: bool) -> None:
        """End the other ranks: wait for them first unless `at_once`; then kill them with their loader workers."""
        end = time.monotonic() + (0 if at_once else ENDING_S)
        for other in self.others:
            with suppress(subprocess.TimeoutExpired):
                other.wait(max(0.0, end - time.monotonic()))
            with suppress(ProcessLookupError):
                os.killpg(other.pid, signal.SIGKILL)
            other.wait()
        for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):
            os.environ.pop(name, None)
            if name in self.before:
                os.environ[name] = self.before[name]


def preparation_s() -> float:
    """Return how long the others may take to prepare what this process has prepared until now."""
    return 2 * (time.monotonic() - signals.BEGAN)


def report_to_rank_0(error: BaseException, code: int) -> bool:
    """Write the error and the exit code to the shared status; return whether there is one."""
    if shared := SharedStatus.here():
        shared.report_failure(code, str(error) if isinstance(error, TfcliError) else f"{type(error).__name__}: {error}")
    return shared is not None


def _as_error(rank: int, code: int, reason: str) -> TfcliError:
    if code in CODES:
        return Interrupted(code - 128, reason)
    error = TfcliError(f"rank {rank}: {reason}")
    error.exit_code = code
    return error


def _ended(rank: int, code: int) -> TfcliError:
    if code in CODES:
        return Interrupted(code - 128, f"rank {rank} was stopped by {WORDS[signal.Signals(code - 128)]}")
    if code < 0:
        name = signal.Signals(-code).name
        return TfcliError(f"rank {rank} was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else ""))
    return TfcliError(f"rank {rank} ended with exit code {code} and did not say why")


def _command() -> list[str]:
    """Return the command line of this program, for another rank."""
    import __main__

    spec = getattr(__main__, "__spec__", None)
    return [sys.executable, *(["-m", spec.name] if spec else [os.path.abspath(sys.argv[0])]), *sys.argv[1:]]


def check_free(port: str) -> None:
    """Refuse a port that another process listens on.

    Raises:
        ConfigError: it does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(port)))
        except (OSError, ValueError, OverflowError) as error:
            raise ConfigError(
                f"MASTER_PORT={port}: that port cannot be used ({getattr(error, 'strerror', None) or error}). "
                "Set another one, or none: then a free one is taken."
            ) from None


def _state(pid: int) -> str:
    """Return the kernel's letter for a process: T is stopped, D waits for a device."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    return ""
