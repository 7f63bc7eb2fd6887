"""Ask SLURM's `squeue` which of our jobs it still has."""

from __future__ import annotations

import subprocess
import time

MAX_AGE_S = 3.0
_seen: tuple[float, set[str] | None] = (0.0, None)


def queued(*, since: float) -> set[str] | None:
    """Return the numbers of my jobs that wait or run (`12`, `12_3`); None where SLURM does not answer.

    The answer is cached for a few seconds, unless it is older than `since` (Unix time): a job that was written down
    after SLURM was asked is not in it, and would be taken for one that has ended.
    """
    global _seen
    now = time.time()
    if not max(since, now - MAX_AGE_S) < _seen[0] <= now:
        try:
            asked = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
            listed = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout
            _seen = now, set(listed.split())
        except (OSError, subprocess.SubprocessError):
            _seen = now, None
    return _seen[1]
