"""Streams that are closed, full or gone, and a folder that is: no traceback, and the right exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from tfcli.cli import app as cli
from tfcli.errors import TfcliError

COMPOSED = "train model=vit data=digits"


def shell(line: str, cwd: Path, *, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = ["bash", "-c", line.replace("tfcli", f"{sys.executable} -m tfcli")]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, env=environment, timeout=timeout)


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--help", "ls models", f"{COMPOSED} --cfg job", f"{COMPOSED} --info defaults-tree"])
def test_a_reader_that_goes_away_is_no_error_and_a_full_disk_is_one(words, tmp_path):
    line = f"""
        (tfcli {words}; echo "piped $?" >&2) | true
        tfcli {words} > /dev/full; echo "full $?" >&2
        tfcli {words} >&-; echo "closed $?" >&2
        tfcli {words} 2>&- | wc -l
    """
    done = shell(line, tmp_path)
    said = "tfcli: the output cannot be written: No space left on device."
    assert done.stderr.splitlines() == ["piped 0", said, "full 1", "closed 0"]
    assert int(done.stdout) > 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_stream_that_was_closed_gives_its_number_to_no_file(tmp_path):
    (tmp_path / "try.py").write_text(
        "from tfcli.engine.runs.terminal import make_streams_resilient\nmake_streams_resilient()\n"
        "raise SystemExit(open('file', 'w').fileno())\n"
    )
    done = shell(f"{sys.executable} try.py <&- >&- 2>&-", tmp_path)
    assert done.returncode == 3


@pytest.mark.slow
@pytest.mark.parametrize("words", [COMPOSED, "ls models", "evaluate latest"])
def test_a_folder_that_was_deleted_is_said(words, tmp_path):
    (tmp_path / "gone").mkdir()
    done = shell(f"cd gone; rmdir ../gone; tfcli {words}", tmp_path)
    assert done.returncode == 2
    assert done.stderr == "tfcli: the current folder has been deleted; `cd` to one that is there.\n"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "model=vit", "data=folder", "data.root=nowhere"],
        ["train", "model=vit", "data=digits", "data.num_classes=11"],
        ["train", "model=vit", "data=digits", "model.weights=missing.pt"],
        ["evaluate", "model=vit", "data=digits", "model.weights=missing.pt"],
        ["probe", "vit", "digits", "model.weights=missing.pt"],
    ],
    ids=lambda words: " ".join([words[0], words[-1]]),
)
def test_a_refused_command_leaves_nothing(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TfcliError) as error:
        cli.app(words, standalone_mode=False)
    assert error.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []
