"""Processor time of the simple models beside a result: computed in a first run, and read by a second one.

    TFCLI_DATA=FOLDER python benchmarks/baselines.py

Sets that are not in the folder are left out. The cache lies in a temporary folder, which is removed.
"""

from __future__ import annotations

import os
import tempfile
import time

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
        for command in COMMANDS:
            job = compose("train", [*command.split(), "trainer.precision=32", "attn.kernel=exact"])
            try:
                parts = prepare(job.config, job.choices, job.overrides)
            except DataError as error:
                print(f"{command:45s} left out: {error}")
                continue
            seconds = []
            for _ in range(2):
                began = time.process_time()
                baselines(parts)
                seconds.append(time.process_time() - began)
            print(f"{command:45s} first run {seconds[0]:6.2f} s   second {seconds[1]:6.3f} s")


if __name__ == "__main__":
    main()
