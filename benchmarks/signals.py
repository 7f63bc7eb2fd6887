"""Runs and sweeps that are stopped by a signal at random moments: does each end as it should, and lose nothing?

    python benchmarks/signals.py --count 20 --ranks 1 2 --sweeps 10

A run is started, gets Ctrl-C, SIGTERM or SIGHUP at a random moment of its start (imports, data, the meeting of the
ranks, the first epoch with its validation), of its other epochs, or of what comes after them (test, figures), and is
resumed. A trial is right when the exit code is that of the signal, no process and no half-written file is left, nothing
of Python's is printed, the record says `interrupted`, and the resumed run ends with the figures of a run that nobody
stopped. A sweep is stopped likewise and started again until it is done: each job has run to its end once, with the same
figures. The moments are drawn with `--seed`; the clock of the machine moves them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARK = "TFCLI_SIGNALS_TRIAL"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TINY = (
    "model=vit",
    "model.width=32",
    "model.depth=1",
    "model.heads=4",
    "data=digits",
    "data.limit_train=600",
    "data.batch_size=32",
    "logger=csv",
    "trainer.precision=32",
    "trainer.threads=1",
)
RUN = ("train", *TINY, "trainer.max_epochs=4", "schedule.warmup_steps=5")
RANKS = {1: [], 2: ["trainer=ddp_cpu", "trainer.devices=2"]}
PARTS = ("start", "epochs", "end")
SWEEP = (*RUN, "-m", "seed=0,1")


class Program:
    """The program in a process of its own, with the moments at which it said certain lines."""

    def __init__(self, words: Sequence[str], cwd: Path):
        self.mark, self.said = uuid.uuid4().hex, []
        self.marks: dict[str, float] = {}
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tfcli", *words],
            cwd=cwd,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), MARK: self.mark},
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            now = time.monotonic() - self.began
            self.said.append(line)
            if line.startswith("epoch 1/"):
                self.marks.setdefault("epochs", now)
            elif line.startswith("epoch 4/4"):
                self.marks.setdefault("end", now)

    def wait(self, timeout_s: float) -> int | None:
        """Return the exit code; None, and kill it, where it takes longer."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return None
        self.marks["all"] = time.monotonic() - self.began
        self._close()
        return code

    def _close(self) -> None:
        assert self.process.stderr is not None
        self.reader.join(10)
        self.process.stderr.close()

    def left(self) -> list[int]:
        """Return the processes that it has started, at first or second hand, and that live."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def kill(self) -> None:
        for pid in self.left():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self._close()


@dataclass
class Trial:
    """How one stopped run or sweep ended; `wrong` is empty where all was right."""

    what: str
    said: str = ""
    wrong: list[str] = field(default_factory=list)


def record(run: Path) -> dict:
    path = run / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


def figures(run: Path) -> dict[str, float]:
    return {k: v for k, v in record(run).get("metrics", {}).items() if k.startswith(("test/", "val/"))}


def reference(work: Path, ranks: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the figures of a run that nobody stops, and when its parts began."""
    run = Program([*RUN, *RANKS[ranks], f"run.dir=whole-{ranks}"], work)
    code = run.wait(300)
    if code != 0:
        sys.exit(f"the run that nobody stops ended with {code}: {''.join(run.said)}")
    return figures(work / f"whole-{ranks}"), run.marks


def stop_a_run(
    work: Path, name: str, part: str, share: float, signum: int, ranks: int, whole: dict, marks: dict
) -> Trial:
    """Stop a run in a part of it, resume it, and compare.

    Args:
        part: start, epochs or end.
        share: how far into that part, from 0 to 1.
        whole, marks: from `reference`.
    """
    bounds = {"start": (0.0, marks["epochs"]), "epochs": (marks["epochs"], marks["end"])}
    begin, end = bounds.get(part, (marks["end"], marks["all"]))
    trial = Trial(f"{ranks} rank{'s' * (ranks > 1)}, {signal.Signals(signum).name} in its {part} at {share:.2f}")
    run = Program([*RUN, *RANKS[ranks], f"run.dir={name}"], work)
    try:
        deadline = time.monotonic() + 300
        while part != "start" and part not in run.marks and run.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(share * (end - begin))
        ended_before = run.process.poll() is not None
        sent = time.monotonic()
        if not ended_before:
            run.process.send_signal(signum)
        code = run.wait(60)
        took = time.monotonic() - sent
        _judge(trial, run, work / name, code, signum, ended_before)
        trial.said = f"{trial.what}: exit {code} after {took:.1f} s, {record(work / name).get('error')}"
        if (work / name / "config.yaml").exists() and not trial.wrong:
            again = Program(["resume", name], work)
            if again.wait(300) != 0:
                trial.wrong.append(f"resume fails: {''.join(again.said)[-2000:]}")
            elif different(figures(work / name), whole):
                trial.wrong.append(f"other figures than the whole run: {different(figures(work / name), whole)}")
    finally:
        run.kill()
    return trial


def _judge(trial: Trial, run: Program, folder: Path, code: int | None, signum: int, ended_before: bool) -> None:
    said = "".join(run.said)
    status = record(folder).get("status")
    if code is None:
        trial.wrong.append(f"hangs: {said[-2000:]}")
        return
    if code != 128 + signum and not (ended_before and code == 0) and not (code == 0 and status == "finished"):
        trial.wrong.append(f"exit code {code}, status {status}: {said[-2000:]}")
    if code == 0 and status != "finished":
        trial.wrong.append(f"exit code 0 but status {status}")
    if (folder / "checkpoints").exists() and code and status not in ("interrupted", "finished"):
        trial.wrong.append(f"status {status}")
    if "Traceback" in said or "Exception ignored" in said:
        trial.wrong.append(f"a traceback: {said[-2000:]}")
    time.sleep(1)
    if run.left():
        trial.wrong.append(f"{len(run.left())} processes left")
    # A second signal may leave a temporary file, a first one none.
    if stray := [p.name for p in folder.rglob("*.tmp")]:
        trial.wrong.append(f"left {stray}")


def different(a: dict[str, float], b: dict[str, float]) -> dict[str, tuple]:
    """Return the figures that differ by more than rounding."""
    keys = a.keys() | b.keys()
    return {k: (a.get(k), b.get(k)) for k in keys if k not in a or k not in b or abs(a[k] - b[k]) > 1e-6}


def reference_sweep(work: Path) -> tuple[dict[str, dict[str, float]], float]:
    """Return the figures of each job of a sweep that nobody stops, and how long it took."""
    sweep = Program([*SWEEP, "run.root=whole"], work)
    if sweep.wait(300) != 0:
        sys.exit("".join(sweep.said))
    return jobs(work / "whole"), sweep.marks["all"]


def stop_a_sweep(work: Path, name: str, share: float, signum: int, whole: dict[str, dict], took_s: float) -> Trial:
    """Stop a sweep of two jobs once, start it again until it ends, and compare."""
    trial = Trial(f"sweep, {signal.Signals(signum).name} at {share:.2f}")
    words = [*SWEEP, f"run.root={name}"]
    sweep = Program(words, work)
    try:
        time.sleep(share * took_s)
        if sweep.process.poll() is None:
            sweep.process.send_signal(signum)
        code = sweep.wait(120)
        if code not in (0, 128 + signum):
            trial.wrong.append(f"exit code {code}: {''.join(sweep.said)[-2000:]}")
        time.sleep(1)
        if sweep.left():
            trial.wrong.append(f"{len(sweep.left())} processes left")
        trial.said = f"{trial.what}: exit {code}"
        if jobs(work / name).keys() != whole.keys():  # a command whose sweep is done would begin another one
            again = Program(words, work)
            if again.wait(300) != 0:
                trial.wrong.append(f"the second start fails: {''.join(again.said)[-2000:]}")
        found = jobs(work / name)
        if found.keys() != whole.keys() or any(different(found[k], whole[k]) for k in whole):
            trial.wrong.append(f"jobs differ from those of a sweep that nobody stopped: {found} {whole}")
    finally:
        sweep.kill()
    return trial


def jobs(root: Path) -> dict[str, dict[str, float]]:
    """Return the figures of each finished job of all sweeps below a folder, by its name; a job done twice is two."""
    folders = [p.parent for p in sorted(root.rglob("sweep.json"))]
    found = [run.parent for folder in folders for run in folder.glob("*/results.json")]
    done = [run for run in found if record(run)["status"] == "finished"]
    return {f"{folders.index(run.parent)}/{run.name[:3]}": figures(run) for run in done}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="signals for each number of ranks")
    parser.add_argument("--ranks", type=int, nargs="*", default=[1, 2], choices=[1, 2])
    parser.add_argument("--sweeps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup` would have the runs ignore it
    work = Path(tempfile.mkdtemp(prefix="tfcli-signals-"))
    for ranks in options.ranks if options.count else []:
        whole, marks = reference(work, ranks)
        trials = []
        for i in range(options.count):
            name = f"run-{ranks}-{i}"
            args = (PARTS[i % 3], draw.random(), SIGNALS[draw.randrange(3)])
            trials.append(stop_a_run(work, name, *args, ranks, whole, marks))
            show(trials[-1])
        total(f"{ranks} rank{'s' * (ranks > 1)}", trials)
    if options.sweeps:
        known = reference_sweep(work)
        trials = []
        for i in range(options.sweeps):
            trials.append(stop_a_sweep(work, f"sweep-{i}", draw.random(), SIGNALS[draw.randrange(3)], *known))
            show(trials[-1])
        total("sweeps", trials)
    shutil.rmtree(work)


def show(trial: Trial) -> None:
    print(trial.said or trial.what, *(f"\n   WRONG: {line}" for line in trial.wrong), flush=True)


def total(what: str, trials: list[Trial]) -> None:
    print(f"{what}: {sum(not trial.wrong for trial in trials)} of {len(trials)} right", flush=True)


if __name__ == "__main__":
    main()
