"""The life of a run: it handles signals, watches its ranks, and leaves a record however it ends. Imports no torch."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tfcli.engine.runs.folder import is_child
from tfcli.engine.runs.ranks import Ranks, SharedStatus
from tfcli.engine.runs.record import Record
from tfcli.engine.runs.signals import CODES, WORDS, Stop, Stopped
from tfcli.errors import Interrupted, TfcliError


class ActiveRun:
    """A run in progress.

    Attributes:
        stop: the request to stop that a signal leaves.
        ranks: the other processes of the run, where this one has started some.
        explain: turns an error into one that says what to do.
        complete: called before the record of a run that did not finish is written.
        finish: called when the record is written: loggers are closed here.
    """

    def __init__(self, folder: Path, record: Record, *, resumable: bool):
        self.folder, self.record, self.resumable = folder, record, resumable
        self.stop = Stop(self._end_at_once)
        self.stop.quiet = is_child()
        self.ranks: Ranks | None = None
        self.shared = SharedStatus.here()  # of the ranks of this machine; None where there is one rank
        self.explain: Callable[[BaseException], BaseException] = lambda error: error
        self.complete: Callable[[], None] = lambda: None
        self.finish: Callable[[], None] = lambda: None
        self._written, self._lock = False, threading.Lock()

    def start_ranks(self, strategy: Any, *, count: int, nodes: int, timeout_s: float) -> None:
        """Start the other ranks of this machine, unless there are none or something else has started them.

        Args:
            strategy: Lightning's.
            count: ranks on this machine.
            nodes: machines.
            timeout_s: the longest time without progress on any rank.
        """
        cluster = getattr(strategy, "cluster_environment", None)
        if self.ranks is None and count > 1 and cluster and not cluster.creates_processes_externally:
            self.ranks = Ranks(cluster, count, nodes=nodes, timeout_s=timeout_s)
            self.shared = self.ranks.shared
            self.stop.trouble = self.ranks.trouble

    def close(self, error: BaseException | None) -> BaseException | None:
        """Write the record, end the other ranks and the loggers. Return the error to raise; None for a finished run."""
        failure = self._failure(error)
        if self.shared and failure:
            self.shared.report_failure(getattr(failure, "exit_code", 1), _line(failure))
        if self.ranks and failure:
            found = self.ranks.cause(failure)
            failure = found or failure
        try:
            if not is_child():
                self._write(failure)
        finally:
            if self.ranks:
                self.ranks.end(at_once=failure is not None and not self.stop.agreed)
        self.finish()
        return failure

    def _failure(self, error: BaseException | None) -> BaseException | None:
        if isinstance(error, Stopped):
            return self._interrupted(error.signum)
        if isinstance(error, KeyboardInterrupt):  # raised by a library
            return self._interrupted(signal.SIGINT)
        if self.stop.signum and isinstance(error, (RuntimeError, OSError)):  # the signal ended a process that it needs
            return self._interrupted(self.stop.signum, f" ({_line(error)})")
        return self.explain(error) if error else None

    def _interrupted(self, signum: int, why: str = "") -> Interrupted:
        word = WORDS[signal.Signals(signum)]
        return Interrupted(signum, f"stopped by {word} {self.stop.doing}{why}. {self._advice()}")

    def _advice(self) -> str:
        return f"`tfcli resume {self.folder}` goes on." if self.resumable else "Run it again."

    def _write(self, failure: BaseException | None) -> None:
        with self._lock:
            record = self.record
            record.status, record.error = "finished", None
            if failure is not None:
                record.status = "interrupted" if isinstance(failure, Interrupted) else "failed"
                record.error = _line(failure)
                self.complete()
            record.write(self.folder)
            self._written = True

    def _end_at_once(self, code: int, reason: str) -> None:
        """Print and record why the program is ended, from the thread that watches over it."""
        if is_child():
            if self.shared:
                self.shared.report_failure(code, reason)
            return
        stopped = code in CODES
        reason = f"{reason}{f' {self.stop.doing}' if stopped else ''}. {self._advice()}" if stopped else reason
        os.write(2, f"tfcli: {reason}\n".encode(errors="replace"))
        with suppress(OSError):
            if not self._written and self._lock.acquire(timeout=1):
                self.record.status, self.record.error = ("interrupted" if stopped else "failed"), reason
                self.complete()
                self.record.write(self.folder)
        if self.ranks:
            self.ranks.end(at_once=True)


def _line(error: BaseException) -> str:
    return str(error) if isinstance(error, TfcliError) else f"{type(error).__name__}: {error}"


@contextmanager
def recorded(folder: Path, record: Record, *, resumable: bool = False) -> Iterator[ActiveRun]:
    """Run the block as the run in `folder`: it handles the signals, and leaves its record however it ends.

    The record is `finished` if the block ends, `interrupted` if a signal stopped it, else `failed` with the error.

    Args:
        folder: of the run, locked by us.
        record: filled by the block.
        resumable: whether `tfcli resume` can go on with it.
    """
    active = ActiveRun(folder, record, resumable=resumable)
    with active.stop.listening():
        error: BaseException | None = None
        try:
            try:
                yield active
                active.stop.check()
                active.stop.held += 1  # from here on the run is over: a signal does not cut the writing of its record
            except BaseException as caught:  # noqa: BLE001  it is written down, then raised again
                active.stop.held += 1
                error = caught
        except Stopped as caught:  # it came between the two
            active.stop.held += 1
            error = caught
        failure = active.close(error)
    if failure is None:
        return
    if failure is error:
        raise failure
    raise failure from error
