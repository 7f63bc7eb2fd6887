"""Stands in for `tfcli train` in the tests of sweeps: reads settings, writes a record, fails or waits when told to."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from tfcli.engine.record import Record

settings = dict(word.partition("=")[::2] for word in sys.argv[2:])
run = Path(settings["run.dir"].strip("'"))
record = Record(verb="train", status="finished", model="vit", data="digits", seed=int(settings.get("seed", 0)))
record.overrides = sys.argv[2:]


def stop(signum, frame):
    time.sleep(0.2)  # a checkpoint is saved
    record.status = "interrupted"
    run.mkdir(parents=True, exist_ok=True)
    record.write(run)
    sys.exit(130 if signum == signal.SIGINT else 143)


signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
print("epoch 1", file=sys.stderr, flush=True)
if "SWEEP_TEST_WAIT" in os.environ:
    Path(os.environ["SWEEP_TEST_WAIT"]).write_text(str(os.getpid()))
    time.sleep(60)
rate = float(settings.get("optim.lr", 0))
if rate == 0.5:
    print("Traceback: something\ntfcli: the loss became NaN at step 3", file=sys.stderr)
    sys.exit(3)
if rate == 0.7:
    os.kill(os.getpid(), signal.SIGKILL)
run.mkdir(parents=True, exist_ok=True)
record.metrics = {"test/accuracy": 0.9 + record.seed / 100 - rate, "test/loss": 0.3, "val/accuracy": 0.8}
record.cost = {"seconds": 2.0 + record.seed}
record.write(run)
