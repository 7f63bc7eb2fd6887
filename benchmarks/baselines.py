"""Processor time of the simple models beside a result: computed in a first run, and read by a second one.

    TFCLI_DATA=FOLDER python benchmarks/baselines.py [model=NAME data=NAME ...]

Sets that are not in the folder are skipped. The cache lies in a temporary folder, which is removed.

Left out: everything else of a run. There is no other program beside it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.clock import processor_s
from tfcli.engine.config.compose import compose
from tfcli.engine.train.baselines import baselines
from tfcli.engine.train.prepare import prepare
from tfcli.errors import DataError

COMMANDS = (
    "model=gpt data=shakespeare",
    "model=vit data=digits",
    "model=bert data=wikitext2",
    "model=bert task=text_classify data=sst2",
    "model=bert task=tag data=wnut17",
    "model=transformer data=multi30k",
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TFCLI_CACHE"] = folder
        for command in [" ".join(sys.argv[1:])] if sys.argv[1:] else COMMANDS:
            job = compose("train", [*command.split(), "trainer.precision=32", "attn.kernel=exact"])
            try:
                parts = prepare(job.config, job.choices, job.overrides)
            except DataError as error:
                print(f"{command:45s} skipped: {error}")
                continue
            seconds = []
            for _ in range(2):
                began = processor_s()
                baselines(parts)
                seconds.append(processor_s() - began)
            print(f"{command:45s} first run {seconds[0]:6.2f} s   second {seconds[1]:6.3f} s")
    print("left out: everything else of a run")


if __name__ == "__main__":
    main()
