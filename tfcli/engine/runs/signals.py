"""Handle Ctrl-C, SIGTERM and SIGHUP. Imports no torch.

Before a run begins, and in verbs that keep no run folder, a signal ends the program at once: files are written whole or
not at all, so that nothing can be torn. During a run its `Stop` handles the signals.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CODES = tuple(128 + signum for signum in SIGNALS)
"""Exit codes of a program that a signal has stopped."""
WORDS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP (the terminal was closed)"}
PARENT = "TFCLI_PARENT"
"""Environment variable that gives the other ranks the number of the process that started them."""
BEGAN = time.monotonic()
TICK_S = 0.25  # between two looks of the watch
ONE_REQUEST_S = 1.0  # a closing session sends SIGHUP and SIGTERM together: that is one request
ECHO_S = 0.3  # a signal to all processes of a job reaches it twice where its parent passes it on
GRANT_S = 3.0  # a run that is at no step boundary and does not stop by then is ended
CLOSING_S = 30.0  # for the loggers of a run that stops


def install_handlers() -> None:
    """Handle the signals from the first line on: they end the program at once, with its exit code and no traceback.

    A further rank also ends when rank 0, which has started it, is gone.
    """
    for signum in _taken():
        signal.signal(signum, _end)
    sys.unraisablehook = _unraisable
    atexit.register(_ignore)
    if PARENT in os.environ:
        die_with_parent(signal.SIGKILL)
        if os.getppid() != int(os.environ[PARENT]):
            os._exit(1)


def _ignore() -> None:
    """Ignore signals once the program is done: Python removes its handlers early, and the exit code must stay."""
    for signum in _taken():
        signal.signal(signum, signal.SIG_IGN)


def _unraisable(lost: sys.UnraisableHookArgs) -> None:
    """Print nothing of a `Stopped` where Python drops errors (a finalizer, a fork's hook): it is raised again."""
    if lost.exc_type is not Stopped:
        sys.__unraisablehook__(lost)


def _end(signum: int, frame: FrameType | None) -> None:
    os.write(2, f"\ntfcli: stopped by {WORDS[signal.Signals(signum)]}.\n".encode())
    exit_now(128 + signum)


def exit_now(code: int) -> None:
    """End this process and its children now, without Python's own clean-up."""
    if sys.stderr and sys.stderr.isatty():
        os.write(2, b"\x1b[?25h")  # a progress bar has hidden the cursor
    kill_children()
    kill_workers()
    os._exit(code)


@contextmanager
def handling(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Let `handler` handle the signals inside the block, and restore the earlier handlers afterwards."""
    before = {s: signal.signal(s, handler) for s in _taken()}
    try:
        yield
    finally:
        for s, old in before.items():
            signal.signal(s, old)


def _taken() -> list[signal.Signals]:
    """Return the signals that we handle: not SIGHUP under `nohup`, and none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [s for s in SIGNALS if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN]


def _forget() -> None:
    """Give a forked process the system's handlers, since its signals are not its parent's."""
    with suppress(ValueError):  # forked from another thread
        signal.set_wakeup_fd(-1)
    for signum in SIGNALS:
        if callable(signal.getsignal(signum)):
            with suppress(ValueError):
                signal.signal(signum, signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget)


class Stopped(BaseException):
    """Raised by a signal where nothing can be lost. Libraries that catch errors do not catch it."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.signum = signum


class Stop:
    """A request to stop, made by a signal.

    While the run trains or writes (`holding`) it is only noted, and granted at the end of the next step. Elsewhere it
    is granted at once: `Stopped` is raised in the main thread. A second signal ends the program, and so does a main
    thread that does not react because it waits inside a library; a thread of its own watches for both.

    Args:
        ended: called with an exit code and a reason when the program is ended in this way; it writes the record.
    """

    def __init__(self, ended: Callable[[int, str], None]):
        self.ended = ended
        self.signum, self.held = 0, 0
        self.granted_at: float | None = None
        self.trouble: Callable[[], tuple[int, str] | None] = lambda: None  # why other ranks make us end, if they do
        self.doing = "before the first step"  # what an interruption is said to have come in
        self.quiet = False
        self.agreed = False  # all ranks know of it, and stop at the same step

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.signum = self.signum or signum
        if not self.held and self.granted_at is None:
            self.check()

    def check(self) -> None:
        """Grant a requested stop; again where a library has swallowed the first exception.

        Raises:
            Stopped: a signal has asked for it.
        """
        if self.signum:
            self.grant()
            raise Stopped(self.signum)

    def grant(self) -> None:
        """Note that the run is stopping."""
        self.granted_at = self.granted_at or time.monotonic()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Defer a request until the end of the block."""
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1
        if not self.held:
            self.check()

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Handle the signals inside the block."""
        if not _taken():
            yield self
            return
        with handling(self), SignalThread(self):
            yield self


class SignalThread(threading.Thread):
    """Receives the signals in a thread of its own, which also works while the main thread waits inside a library."""

    def __init__(self, stop: Stop):
        super().__init__(name="tfcli-signals", daemon=True)
        self.stop, self.over = stop, False
        self.first, self.asked_at = 0, 0.0

    def __enter__(self) -> SignalThread:
        self.read, self.write = os.pipe()
        for end in (self.read, self.write):
            os.set_blocking(end, False)
        self.before = signal.set_wakeup_fd(self.write, warn_on_full_buffer=False)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over = True
        signal.set_wakeup_fd(self.before)
        os.write(self.write, b"\0")
        self.join()
        os.close(self.read)
        os.close(self.write)

    def run(self) -> None:
        while not self.over:
            if select.select([self.read], [], [], TICK_S)[0]:
                for signum in os.read(self.read, 64):
                    if signum in SIGNALS:
                        self._receive(signum)
            if not self.over:
                self._watch(time.monotonic())

    def _receive(self, signum: int) -> None:
        now = time.monotonic()
        if not self.first:
            self.first, self.asked_at = signum, now
            if not self.stop.quiet:
                what = "saving a checkpoint, then stopping" if self.stop.held else "stopping"
                os.write(2, f"\ntfcli: {WORDS[signal.Signals(signum)]}: {what}.\n".encode())
        elif now - self.asked_at > (ECHO_S if signum == self.first else ONE_REQUEST_S):
            self._end(128 + signum, f"ended at once by a second signal ({WORDS[signal.Signals(signum)]})")

    def _watch(self, now: float) -> None:
        granted = self.stop.granted_at
        if (granted is not None and now - granted > CLOSING_S) or (
            self.first and granted is None and not self.stop.held and now - self.asked_at > GRANT_S
        ):
            self._end(128 + (self.first or self.stop.signum), f"stopped by {WORDS[signal.Signals(self.first)]}")
        if found := self.stop.trouble():
            self._end(*found)

    def _end(self, code: int, reason: str) -> None:
        self.stop.ended(code, reason)
        exit_now(code)


def kill_children() -> None:
    """Kill the processes that this one started (loader workers, ranks with theirs)."""
    me = os.getpid()
    with suppress(OSError):
        children = Path(f"/proc/{me}/task/{me}/children").read_text(encoding="ascii").split()
        for pid in map(int, children):
            with suppress(OSError):
                if os.getpgid(pid) == pid:  # a process that we gave a group of its own
                    os.killpg(pid, signal.SIGKILL)
                os.kill(pid, signal.SIGKILL)


def kill_workers() -> None:
    """Kill the loader processes that are left at the program's end: they have nothing to save, and would wait on."""
    with suppress(ValueError):  # torch's handler takes the end of a worker for an error; outside the main thread
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if processes := sys.modules.get("multiprocessing"):
        for child in processes.active_children():
            child.kill()


def die_with_parent(signum: int) -> None:
    """Ask Linux to send this process a signal when the one that started it is gone."""
    if sys.platform == "linux":
        import ctypes  # not needed at the start of every command

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signum)
