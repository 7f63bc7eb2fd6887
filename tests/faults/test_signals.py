"""Signals, hanging and dying ranks: the run ends as it should, says why, and leaves nothing behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import program, tfcli

from benchmarks.signals import (
    PARTS,
    RANKS,
    SIGNALS,
    TINY,
    Program,
    reference,
    reference_sweep,
    stop_a_run,
    stop_a_sweep,
)
from tfcli.engine.runs.lifecycle import ActiveRun, recorded
from tfcli.engine.runs.ranks import SharedStatus, Stage, check_free
from tfcli.engine.runs.record import Record, read_record
from tfcli.engine.runs.signals import Stopped, kill_workers
from tfcli.errors import ConfigError, Interrupted
from tfcli.sweeps.process import Process, command_words
from tfcli.sweeps.state import Job, State

RECORD = {"verb": "train", "status": "failed", "model": "vit", "data": "digits"}


@pytest.fixture(scope="module", params=[1, 2])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A folder, a number of ranks, and the figures and moments of a run that nobody stopped."""
    work = tmp_path_factory.mktemp("whole")
    return work, request.param, *reference(work, request.param)


@pytest.mark.slow
@pytest.mark.parametrize(("part", "share", "signum"), list(zip(PARTS, (0.95, 0.4, 0.3), SIGNALS, strict=True)))
def test_a_run_stopped_in_any_part_of_it_loses_nothing(whole, part: str, share: float, signum: int):
    work, ranks, *known = whole
    trial = stop_a_run(work, f"{part}-{ranks}", part, share, signum, ranks, *known)
    assert trial.wrong == []


@pytest.fixture(autouse=True)
def hang_up_is_heard() -> Iterator[None]:
    """Undo what `nohup pytest` hands on: a run leaves an ignored SIGHUP ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def run_in(folder: Path, body: Callable[[ActiveRun], object]) -> None:
    with recorded(folder, Record(**RECORD), resumable=True) as active:
        active.stop.doing = "during the test"
        body(active)


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_where_nothing_can_be_lost_is_granted_at_once_and_recorded(tmp_path: Path, signum: int):
    def body(active: ActiveRun) -> None:
        os.kill(os.getpid(), signum)
        time.sleep(5)

    before = signal.getsignal(signum)
    with pytest.raises(Interrupted) as stopped:
        run_in(tmp_path, body)
    assert signal.getsignal(signum) == before
    assert stopped.value.exit_code == 128 + signum
    record = read_record(tmp_path)
    assert record.status == "interrupted"
    assert record.error is not None
    assert f"during the test. `tfcli resume {tmp_path}` goes on." in record.error


def test_a_signal_while_a_run_saves_waits(tmp_path: Path):
    done = []

    def body(active: ActiveRun) -> None:
        with active.stop.holding():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("saved")
        done.append("went on")

    with pytest.raises(Interrupted):
        run_in(tmp_path, body)
    assert done == ["saved"]


def test_a_signal_that_a_library_swallows_still_stops_the_run(tmp_path: Path):
    def body(active: ActiveRun) -> None:
        with suppress(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with pytest.raises(Interrupted):
        run_in(tmp_path, body)
    assert read_record(tmp_path).status == "interrupted"


DROPPED = """
import os, signal
from tfcli.engine.runs import signals
signals.install_handlers()
class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(10): pass
stop = signals.Stop(lambda code, reason: None)
with stop.listening():
    Dropping()
    try:
        stop.check()
    except signals.Stopped:
        print("stopped")
"""


def test_a_signal_where_python_drops_errors_prints_no_traceback_and_stops_the_run(tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, timeout=60)
    assert done.stdout == "stopped\n"
    assert done.stderr == "\ntfcli: SIGTERM: stopping.\n"


def test_the_end_of_a_killed_worker_is_no_error():
    def raises(*_: object) -> None:
        raise RuntimeError("DataLoader worker is killed by signal")

    before = signal.signal(signal.SIGCHLD, raises)  # as torch's loaders do
    try:
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
        kill_workers()
        worker.join(10)
        assert worker.exitcode == -signal.SIGKILL
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_an_error_that_a_signal_has_caused_is_an_interruption(tmp_path: Path):
    def body(active: ActiveRun) -> None:
        active.stop.held += 1  # in the fit
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Terminated.")

    with pytest.raises(Interrupted) as stopped:
        run_in(tmp_path, body)
    assert stopped.value.exit_code == 143
    assert "is killed by signal" in str(stopped.value)


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("gone"), RecursionError("deep")])
def test_any_error_is_written_down(tmp_path: Path, error: Exception):
    def body(active: ActiveRun) -> None:
        raise error

    with pytest.raises(type(error)):
        run_in(tmp_path, body)
    record = read_record(tmp_path)
    assert (record.status, record.error) == ("failed", f"{type(error).__name__}: {error}")


def test_the_board_keeps_the_first_reason(tmp_path: Path):
    with open(tmp_path / "board", "w+b") as file:
        file.truncate(2 * SharedStatus.PLACE)
        here, there = SharedStatus(file.fileno(), 0), SharedStatus(file.fileno(), 1)
        there.beat(Stage.FORWARD_PASS)
        there.report_failure(3, "the loss is nan — é")
        there.report_failure(1, "connection closed by peer")
        assert here.read(1)[1:3] == (1, Stage.FORWARD_PASS)
        assert (here.read(1)[4], here.reason(1)) == (3, "the loss is nan — é")
        assert here.read(0)[3] == 0


def wait_for(program: Program, part: str) -> None:
    end = time.monotonic() + 200
    while part not in program.marks:
        assert program.process.poll() is None, "".join(program.said)
        assert time.monotonic() < end, "".join(program.said)
        time.sleep(0.01)


@pytest.mark.slow
def test_a_second_signal_ends_a_run_within_two_seconds(tmp_path: Path):
    run = Program(["train", *TINY, "trainer.max_epochs=400", "run.dir=run"], tmp_path)
    try:
        wait_for(run, "epochs")
        run.process.send_signal(signal.SIGTERM)
        while not any("SIGTERM: " in line for line in run.said) and run.process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.4)
        run.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert run.wait(60) == 143
        assert time.monotonic() - began < 2
        assert read_record(tmp_path / "run").status == "interrupted"
        time.sleep(1)
        assert run.left() == []
    finally:
        run.kill()


def rank(program: Program, number: int) -> int:
    """Return the process of a rank: the child of rank 0 that was given the number."""
    for pid in program.left():
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"LOCAL_RANK={number}".encode() in words and os.getpgid(pid) == pid:
            return pid
    raise AssertionError(f"there is no rank {number}")


LONG = [*TINY, *RANKS[2], "trainer.max_epochs=2000", "run.dir=run"]


@pytest.mark.slow
def test_a_rank_that_hangs_is_named_when_its_time_is_up(tmp_path: Path):
    run = Program(["train", *LONG, "trainer.timeout_s=30"], tmp_path)
    try:
        wait_for(run, "epochs")
        os.kill(rank(run, 1), signal.SIGSTOP)
        assert run.wait(120) == 1
        said = "".join(run.said)
        assert "rank 1 hangs: no rank has come further for 30 s" in said
        record = read_record(tmp_path / "run")
        assert record.status == "failed"
        assert record.error is not None
        assert record.error.startswith("rank 1 hangs")
        assert run.left() == []
    finally:
        run.kill()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_that_is_killed_takes_the_others_with_it(tmp_path: Path, killed: int):
    run = Program(["train", *LONG], tmp_path)
    try:
        wait_for(run, "epochs")
        os.kill(rank(run, 1) if killed else run.process.pid, signal.SIGKILL)
        assert run.wait(20) == (1 if killed else -9)
        if killed:
            assert "rank 1 was killed by SIGKILL" in "".join(run.said)
            assert read_record(tmp_path / "run").error == "rank 1 was killed by SIGKILL (out of memory?)"
        time.sleep(2)
        assert run.left() == []
    finally:
        run.kill()


@pytest.mark.slow
def test_the_error_of_the_rank_that_fails_first_is_the_run_s(tmp_path: Path):
    from PIL import Image

    for split, count in (("train", 8), ("val", 2)):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(count // 2):
                pixels = random.Random(f"{split}{name}{i}").randbytes(3 * 64 * 64)
                Image.frombytes("RGB", (64, 64), pixels).save(tmp_path / "pets" / split / name / f"{i}.jpg")
    torn = tmp_path / "pets" / "train" / "cat" / "2.jpg"
    torn.write_bytes(torn.read_bytes()[:1500])  # its header is whole: it fails when it is decoded, on one rank
    words = ["model=vit", "model.width=16", "model.depth=1", "model.heads=2", "data=folder"]
    words += [
        "data.root=pets",
        "data.image_size=32",
        "data.patch_size=8",
        "data.cache=none",
        "data.workers=0",
        "data.batch_size=1",
    ]
    words += ["logger=csv", "trainer.precision=32", "trainer.threads=1", "trainer.max_epochs=3", *RANKS[2], "run.dir=r"]
    run = Program(["train", *words], tmp_path)
    try:
        code = run.wait(120)
        said = "".join(run.said)
        assert code not in (0, None), said
        assert said.count("2.jpg") == 1, said
        assert "2.jpg" in (read_record(tmp_path / "r").error or ""), said
        assert "peer" not in said, said
        assert run.left() == []
    finally:
        run.kill()


@pytest.mark.slow
def test_fewer_samples_than_ranks_are_measured_as_by_one(tmp_path: Path):
    words = [*TINY, "data.limit_test=1", "trainer.max_epochs=1"]
    assert program("train", *words, *RANKS[2], "run.dir=two", cwd=tmp_path).returncode == 0
    done = tfcli("evaluate", "two", "trainer.threads=1", "--json", cwd=tmp_path)
    alone, together = json.loads(done.stdout)["metrics"], read_record(tmp_path / "two").metrics
    assert together["test/loss"] == pytest.approx(alone["test/loss"], abs=1e-6)


@pytest.mark.slow
def test_a_stopped_sweep_ends_exact(tmp_path: Path):
    trial = stop_a_sweep(tmp_path, "stopped", 0.5, signal.SIGTERM, *reference_sweep(tmp_path))
    assert trial.wrong == []


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        with pytest.raises(ConfigError, match=r"MASTER_PORT=\d+: that port cannot be used \(Address already in use\)"):
            check_free(str(other.getsockname()[1]))


def test_a_job_is_what_its_record_says_and_not_its_exit_code(tmp_path: Path):
    for number, (status, code, expected) in enumerate(
        [
            ("interrupted", 0, "interrupted"),
            ("failed", 0, "failed"),
            ("finished", 143, "finished"),
            (None, 143, "interrupted"),
            (None, 0, "failed"),
        ]
    ):
        job = Job(number, "x", [])
        (tmp_path / job.name).mkdir()
        if status:
            Record(**{**RECORD, "status": status}).write(tmp_path / job.name)
        state = State("train", [], {}, [job], words=[])
        process = Process(job, state, tmp_path, command=[sys.executable, "-c", f"raise SystemExit({code})"])
        if status:
            (tmp_path / job.name).mkdir(exist_ok=True)
            Record(**{**RECORD, "status": status}).write(tmp_path / job.name)
        process.wait()
        assert job.status == expected, (status, code)


def test_a_finished_training_is_not_thrown_away_on_retry(tmp_path: Path):
    job = Job(1, "x", [], status="failed")
    run = tmp_path / job.name
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").touch()
    (run / "config.yaml").touch()
    record = Record(**RECORD, checkpoint="checkpoints/best.ckpt")
    record.write(run)
    assert command_words(job, State("train", [], {}, [job]), run) == ["resume", str(run)]
    record.checkpoint = None  # it failed in training
    record.write(run)
    assert command_words(job, State("train", [], {}, [job]), run)[0] == "train"
    assert not run.exists()
