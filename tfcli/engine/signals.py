"""Ctrl-C and SIGTERM, and what they ask of a run. Imports no torch."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any


@contextmanager
def handling(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """SIGINT and SIGTERM go to `handler` meanwhile, and afterwards where they went before."""
    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for s, old in before.items():
            signal.signal(s, old)


class Stop:
    """A wish to stop, left by a signal and granted at the next step's end. A second Ctrl-C ends the program at once."""

    def __init__(self) -> None:
        self.signum = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.signum == signal.SIGINT == signum:
            os.write(2, b"\ntfcli: stopped at once; the last checkpoint is whole.\n")
            kill_children()
            os._exit(130)
        self.signum = signum
        words = "Ctrl-C" if signum == signal.SIGINT else "SIGTERM"
        os.write(2, f"\ntfcli: {words}: saving a checkpoint, then stopping.\n".encode())

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Catch SIGINT and SIGTERM meanwhile."""
        with handling(self):
            yield self


def kill_children() -> None:
    """Kill the processes that this one started (loader workers, ranks)."""
    me = os.getpid()
    with suppress(OSError):
        children = Path(f"/proc/{me}/task/{me}/children").read_text(encoding="ascii").split()
        for pid in children:
            with suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)
