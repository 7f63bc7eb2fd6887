"""Two ranks on the CPU: one folder, one W&B run, and the figures of one process."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY, program, tfcli

from tfcli.engine.runs.paired import read_outcomes

RUN = (
    *(w for w in TINY if w != "logger=csv"),
    "trainer=ddp_cpu",
    "trainer.devices=2",
    "trainer.max_epochs=2",
    "data.limit_test=333",
    "run.dir=run",
)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("ranks")
    done = program("train", *RUN, cwd=work)
    assert done.returncode == 0, done.stderr
    return work


def test_two_ranks_leave_one_folder(two_ranks: Path):
    assert [p.name for p in two_ranks.iterdir() if p.is_dir() and p.name != "outputs"] == ["run"]
    assert not (two_ranks / "outputs").exists() or not any((two_ranks / "outputs").rglob("results.json"))
    rows = (two_ranks / "run" / "metrics.csv").read_text().splitlines()
    assert len(rows) == len(set(rows))


def records(data: bytes) -> Iterator[bytes]:
    """The records of an offline W&B file: a LevelDB log after 7 bytes: 32 KiB blocks of crc, length, type, payload."""
    place, parts = 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part of a record
            yield parts
            parts = b""


def test_two_ranks_make_one_wandb_run_with_the_metrics_in_it(two_ranks: Path):
    from wandb.proto import wandb_internal_pb2 as pb

    files = list((two_ranks / "run" / "wandb").rglob("*.wandb"))
    assert len(files) == 1
    names, runs = set(), []
    for data in records(files[0].read_bytes()):
        record = pb.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            runs.append(record.run.run_id)
        for item in record.history.item:
            names.add(item.key or ".".join(item.nested_key))
    assert set(runs) == {(two_ranks / "run" / "wandb_id.txt").read_text().strip()}
    assert {"train/loss", "val/accuracy"} <= names


def test_an_odd_test_set_gives_the_figures_of_one_process(two_ranks: Path):
    done = tfcli("evaluate", "run", "trainer.threads=1", "--json", cwd=two_ranks)
    assert done.returncode == 0, done.stderr
    alone = json.loads(done.stdout)
    together = json.loads((two_ranks / "run" / "results.json").read_text())
    assert together["counts"]["test"] == 333
    for name, value in together["metrics"].items():
        if name.startswith("test/"):
            assert alone["metrics"][name] == pytest.approx(value, abs=1e-6), name
    kept = [read_outcomes(folder) for folder in (two_ranks / "run", two_ranks / alone["run"])]
    assert kept[0] is not None
    assert kept[0].index.tolist() == list(range(333))
    assert kept[0].same_images(kept[1])
    assert (kept[0].guess == kept[1].guess).all()


@pytest.mark.slow
def test_a_run_of_two_ranks_resumes(two_ranks: Path):
    done = program("resume", "run", "trainer.max_epochs=3", cwd=two_ranks)
    assert done.returncode == 0, done.stderr
    assert "resumed in epoch 3 at batch 0" in done.stderr
