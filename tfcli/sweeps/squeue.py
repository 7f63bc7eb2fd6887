"""Ask SLURM's `squeue` which of our jobs it still has."""

from __future__ import annotations

import subprocess
import time

MAX_AGE_S = 3.0
_seen: tuple[float, set[str] | None] = (-1e9, None)


def queued() -> set[str] | None:
    """Return the numbers of my jobs that wait or run (`12`, `12_3`); None where SLURM does not answer. The answer is
    cached for a few seconds.
    """
    global _seen
    if time.monotonic() - _seen[0] > MAX_AGE_S:
        try:
            asked = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
            listed = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout
            _seen = time.monotonic(), set(listed.split())
        except (OSError, subprocess.SubprocessError):
            _seen = time.monotonic(), None
    return _seen[1]


def forget() -> None:
    """Ask SLURM anew next time: a job was submitted."""
    global _seen
    _seen = -1e9, None
