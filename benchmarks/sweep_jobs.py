"""Processor time of the jobs of a sweep: forked from a process that has imported everything, and each started anew.

    python benchmarks/sweep_jobs.py --jobs 6

Two sweeps of each way, of one job and of `--jobs`, in turns. A job trains a tiny ViT for 19 steps (0.2 s), tests it
and draws its figures. What a job costs is the difference of the two sweeps, of all processes, divided by the number of
jobs between them; what a sweep of one job takes besides is its own process, and the imports of the worker.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from signals import ROOT, TINY

SWEEP = """
import sys
from tfcli.sweeps.runner import TFCLI, Launch
from tfcli.sweeps.sweep import run_sweep
anew = (sys.executable, "-m", "tfcli.__main__")  # another spelling: a command that a sweep does not know is not forked
run_sweep("train", sys.argv[2:], "runs", launch=Launch(command=anew if sys.argv[1] == "anew" else TFCLI), new=True)
"""


def sweep(way: str, jobs: int) -> tuple[float, float, float]:
    """Run a sweep; return its processor seconds, its seconds on the clock and its peak of memory in MB.

    The memory is that of all its processes together; pages that several share count once (Pss).
    """
    with tempfile.TemporaryDirectory() as work:
        words = [sys.executable, "-c", SWEEP, way, *TINY, "trainer.max_epochs=1", f"seed=range({jobs})"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        before, began, peak = used(), time.monotonic(), 0.0
        with open(Path(work) / "said", "w") as said:
            process = subprocess.Popen(words, cwd=work, env=environment, stderr=said)
        while process.poll() is None:
            peak = max(peak, sum(map(memory, tree(process.pid))))
            time.sleep(0.2)
        if process.returncode:
            sys.exit((Path(work) / "said").read_text())
        return used() - before, time.monotonic() - began, peak


def used() -> float:
    """Return the processor seconds of all children that have ended, theirs included."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *(found for child in children for found in tree(int(child)))]


def memory(pid: int) -> float:
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=6)
    options = parser.parse_args()
    ways = ("anew", "forked")
    taken = {(way, jobs): sweep(way, jobs) for jobs in (1, options.jobs) for way in ways}
    for way in ways:
        (one, _, _), (all_, wall, peak) = taken[way, 1], taken[way, options.jobs]
        each = (all_ - one) / (options.jobs - 1)
        print(
            f"{way:8} {each:5.2f} s a job, {one - each:5.2f} s a sweep besides; {options.jobs} jobs {all_:.1f} s, "
            f"{wall:.0f} s on the clock, {peak:.0f} MB"
        )


if __name__ == "__main__":
    main()
