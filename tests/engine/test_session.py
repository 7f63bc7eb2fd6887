"""The lock on a run folder: one holder, and never a stale one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT

from tfcli.engine.runs.folder import locked
from tfcli.errors import RunError
from tfcli.files import identity, is_alive


def test_of_three_takers_of_a_lock_one_gets_it(tmp_path: Path):
    inside, most, refused = [0], [0], [0]

    def take(start: threading.Barrier, end: threading.Barrier) -> None:
        start.wait()
        try:
            with locked(tmp_path):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                end.wait()
                inside[0] -= 1
        except RunError:
            refused[0] += 1
            end.wait()

    rounds = 20
    for _ in range(rounds):
        gates = threading.Barrier(3), threading.Barrier(3)
        takers = [threading.Thread(target=take, args=gates) for _ in range(3)]
        for taker in takers:
            taker.start()
        for taker in takers:
            taker.join()
    assert (most[0], refused[0]) == (1, 2 * rounds)
    assert list(tmp_path.iterdir()) == []


LEFT = {"empty": "", "reused": f"{os.getpid()} {socket.gethostname()}", "another machine": "77 another-machine"}


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_a_lock_that_a_dead_process_left_is_taken_over(tmp_path: Path, left: str):
    (tmp_path / ".lock").write_text(left)  # empty after a power cut; the second names a process that lives, not its own
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()} {socket.gethostname()}"


def test_a_killed_process_lets_go_though_its_forked_worker_lives(tmp_path: Path):
    code = """
import os, sys, time
from pathlib import Path
from tfcli.engine.runs.folder import locked
with locked(Path(sys.argv[1])):
    worker = os.fork()
    if not worker:
        time.sleep(30)
    print(worker, flush=True)
    time.sleep(30)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert holder.stdout is not None
        worker = int(holder.stdout.readline())
        try:
            with pytest.raises(RunError, match=f"in use by process {holder.pid} on"), locked(tmp_path):
                pass
            holder.kill()
            holder.wait()
            with locked(tmp_path):
                os.kill(worker, 0)
        finally:
            holder.kill()
            os.kill(worker, 9)


def test_a_later_process_with_the_same_number_is_another_one():
    pid, _, began = identity().partition(".")
    assert is_alive(identity())
    assert is_alive(pid)  # as earlier versions wrote it
    assert not is_alive(f"{pid}.{int(began or 0) - 1}")
