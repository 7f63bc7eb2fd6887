"""A disk without room: refused before a run where that can be known, else named, with the record written."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY, tfcli
from omegaconf import OmegaConf

from tfcli.cli import app as cli
from tfcli.engine.runs.disk_space import RESERVED_BYTES, check_space
from tfcli.engine.runs.folder import locked, logged, say
from tfcli.engine.runs.record import Record, read_record
from tfcli.errors import RunError, TfcliError


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass


def test_the_record_is_written_on_a_full_disk(small_disk, capsys):
    folder = small_disk / "run"
    folder.mkdir()
    with locked(folder), logged(folder):
        assert (folder / ".reserve").stat().st_size == RESERVED_BYTES
        fill(small_disk)
        say("a line" * 1000)
        say("the last line")
        Record("train", "failed", "vit", "digits", error="no room").write(folder)
    said = capsys.readouterr().err
    assert said.count("log.txt is no longer written: No space left on device") == 1
    assert "the last line" in said
    assert read_record(folder).error == "no room"
    assert not (folder / ".reserve").exists()


def test_a_file_that_has_no_room_is_named_with_the_room_and_the_remedy(small_disk):
    from tfcli.engine.train.loggers import MetricsFile

    fill(small_disk)
    with pytest.raises(TfcliError) as error:
        MetricsFile(small_disk / "metrics.csv").log_metrics({"train/loss": 1.0}, step=1)
    said = str(error.value)
    assert said.startswith(f"`{small_disk / 'metrics.csv'}` could not be written: No space left on device (0 B free")
    assert "run.root=FOLDER" in said
    with pytest.raises(TfcliError, match=r"(\.lock|\.reserve)` could not be written"), locked(small_disk):
        pass


def test_a_model_whose_checkpoints_cannot_fit_is_refused_before_it_begins(small_disk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"free, but a checkpoint of this model takes about .* 3 must fit at once"):
        cli.app(["train", *TINY, "model.width=96", f"run.root={small_disk}"], standalone_mode=False)
    assert list(small_disk.iterdir()) == []


def test_the_size_of_a_checkpoint_is_known_beforehand(tiny_run):
    from tfcli.engine.config.build import build
    from tfcli.engine.train.run import checkpoint_bytes

    config = OmegaConf.create(yaml.safe_load((tiny_run / "config.yaml").read_text()))
    config.data.num_classes = 10
    said = checkpoint_bytes(build(config.model), config)
    size = (tiny_run / "checkpoints" / "last.ckpt").stat().st_size
    assert 0.7 * size < said < 1.1 * size


def test_a_limit_on_the_size_of_files_counts(tmp_path, monkeypatch):
    check_space(tmp_path / "not" / "yet", checkpoint_bytes=10**6, copies=3)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (100_000, 100_000))
    with pytest.raises(RunError, match=r"files may have 100 kB here \(`ulimit -f`\)"):
        check_space(tmp_path, checkpoint_bytes=10**6, copies=1)


@pytest.mark.slow
def test_a_disk_that_fills_up_in_the_middle_of_a_run(small_disk, tmp_path):
    """The last good checkpoint stays, the message names the file, and the record says how it ended."""
    code = f"""
import sys
sys.argv = ['tfcli', *sys.argv[1:]]
from pathlib import Path
import tfcli.engine.train.run as run, tfcli.engine.train.checkpoints as checkpoints
from test_full_disk import fill
run.check_space = lambda *given, **named: None
save = checkpoints.Checkpoints.save
def filled_up(self, trainer):
    if self.folder.joinpath('last.ckpt').exists():
        fill(Path({str(small_disk)!r}))
    save(self, trainer)
checkpoints.Checkpoints.save = filled_up
from tfcli.__main__ import main
main()
"""
    words = ["train", *TINY, "model.depth=1", "model.width=16", "trainer.max_epochs=3", "trainer.test=last"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, f"run.dir={small_disk / 'run'}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{Path(__file__).parent}"},
    )
    assert done.returncode == 1, done.stderr
    assert "could not be written" in done.stderr
    assert "free" in done.stderr
    assert "Traceback" not in done.stderr
    record = read_record(small_disk / "run")
    assert record.status == "failed"
    assert "could not be written" in str(record.error)
    (small_disk / "filler").unlink()
    done = tfcli("resume", str(small_disk / "run"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
