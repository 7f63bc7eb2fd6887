"""A run of many short epochs takes no more memory, files, threads or processes at its end than at its beginning."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY

from benchmarks.signals import Program

WARM = 50
"""Epochs after which all that is made once has been made."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_hundred_epochs_take_no_more_than_fifty(tmp_path: Path):
    words = [*TINY, "data.limit_train=64", "data.batch_size=64", "trainer.max_epochs=200", "run.dir=run"]
    run = Program(["train", *words], tmp_path)
    seen: dict[int, tuple[int, ...]] = {}
    try:
        while run.process.poll() is None:
            epochs = [line for line in run.said if line.startswith("epoch ")]
            if epochs and (found := taken(run)):
                seen[int(epochs[-1].split()[1].partition("/")[0])] = found
            time.sleep(0.05)
        assert run.wait(60) == 0, "".join(run.said)
    finally:
        run.kill()
    warm = [found for epoch, found in seen.items() if WARM <= epoch < 2 * WARM]
    late = [found for epoch, found in seen.items() if 150 <= epoch < 199]
    assert min(len(warm), len(late)) >= 3
    memory, files, threads, processes = (max(column) for column in zip(*warm, strict=True))
    assert max(found[0] for found in late) < memory + 4_000, "kB of memory: 40 kB an epoch"
    assert max(found[1] for found in late) <= files, "open files"
    assert max(found[2] for found in late) <= threads, "threads"
    assert max(found[3] for found in late) <= processes, "processes"


def taken(run: Program) -> tuple[int, ...] | None:
    """Return the memory in kB, the open files, the threads and the processes of a program; None where it has ended."""
    process = Path(f"/proc/{run.process.pid}")
    try:
        status = (process / "status").read_text()
        files = len(list((process / "fd").iterdir()))
    except OSError:
        return None
    counts = [re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE) for name in ("RssAnon", "Threads")]
    if not all(counts):
        return None
    memory, threads = (int(count[1]) for count in counts if count)
    return memory, files, threads, len(run.left())
