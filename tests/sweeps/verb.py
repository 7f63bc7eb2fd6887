"""Stands in for `tfcli train` in the tests of sweeps: reads settings, writes a record, fails or waits when told to.

It leaves what a run leaves: config.yaml and a checkpoint before it waits, so that it can be resumed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from tfcli.engine.runs.record import Record

words = sys.argv[2:]
resumed = sys.argv[1] == "resume"
run = Path(words[0] if resumed else next(w for w in words if w.startswith("run.dir="))[8:].strip("'"))
if resumed:
    words = json.loads((run / "config.yaml").read_text())
elif (run / "config.yaml").exists():
    sys.exit("tfcli: a run is here already")
settings = dict(word.partition("=")[::2] for word in words)
record = Record(verb="train", status="finished", model="vit", data="digits", seed=int(settings.get("seed", 0)))
record.overrides = words


def stop(signum, frame):
    time.sleep(0.2)  # a checkpoint is saved
    record.status = "interrupted"
    run.mkdir(parents=True, exist_ok=True)
    record.write(run)
    sys.exit(130 if signum == signal.SIGINT else 143)


signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
print("goes on" if resumed else "epoch 1", file=sys.stderr, flush=True)
for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "WANDB_RUN_GROUP"):
    if "SWEEP_TEST_SAY" in os.environ:
        print(f"{name}={os.environ.get(name)}", file=sys.stderr, flush=True)
rate = float(settings.get("optim.lr", 0))
if rate == 0.5 and not os.path.exists(os.environ.get("SWEEP_TEST_MENDED", "/nowhere")):
    print("Traceback: something\ntfcli: the loss became NaN at step 3", file=sys.stderr)
    sys.exit(3)
if rate == 0.7:
    os.kill(os.getpid(), signal.SIGKILL)
if "SWEEP_TEST_WAIT" in os.environ and not resumed:
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").write_text("")
    (run / "config.yaml").write_text(json.dumps(words))
    gate = Path(os.environ["SWEEP_TEST_WAIT"])
    with gate.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if gate.read_text().split().index(str(os.getpid())) >= int(os.environ.get("SWEEP_TEST_FREE", 0)):
        end = time.monotonic() + 60
        while time.monotonic() < end and not gate.with_suffix(".open").exists():
            time.sleep(0.05)
run.mkdir(parents=True, exist_ok=True)
record.metrics = {"test/accuracy": 0.9 + record.seed / 100 - rate, "test/loss": 0.3, "val/accuracy": 0.8 - rate}
record.cost = {"seconds": 2.0 + record.seed}
record.write(run)
