"""Mistakes are answered in one line, with exit code 2, soon, without torch, and nothing is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.mistakes import mistakes
from tfcli.errors import WeightsError
from tfcli.weights.hub import check_name

pytestmark = pytest.mark.slow  # a minute of processor time

ROOT = Path(__file__).resolve().parents[2]
ALL = """
import json, sys
from pathlib import Path
import tfcli.cli.app, hydra, yaml
from benchmarks.mistakes import answer, furnish, left, mistakes
folder = Path(sys.argv[1])
furnish(folder)
before = left(folder)
valid = min(answer(["train", "--cfg", "job"], folder, fork=True).seconds for _ in range(2))
found = [answer(words, folder, fork=True) for words, _ in mistakes()]
print(json.dumps({"valid": valid, "found": found, "more": sorted({*left(folder)} - {*before})}))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict:
    """All of them, each in a copy of one process that has imported the command line."""
    folder = tmp_path_factory.mktemp("mistakes") / "work"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ALL, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_hundred_mistakes_are_answered_in_one_line_with_exit_code_2(answers):
    assert len(mistakes()) >= 100
    wrong = {}
    for (words, said), (code, text, _) in zip(mistakes(), answers["found"], strict=True):
        if code != 2 or text.count("\n") != 1 or said not in text:
            wrong[" ".join(words)] = (code, text)
    assert not wrong


def test_they_take_no_longer_than_a_valid_command_and_write_nothing(answers):
    limit = answers["valid"] + 0.3
    slow = {" ".join(w): s for (w, _), (_, _, s) in zip(mistakes(), answers["found"], strict=True) if s > limit}
    assert not slow, limit
    assert not answers["more"]


def test_a_models_name_in_place_of_weights_is_told_its_public_ones():
    with pytest.raises(WeightsError, match=r"`vit` is a model, not its weights; public ones are .* and \d+ more"):
        check_name("vit")
    with pytest.raises(WeightsError, match=r"`vit-digts` is neither .*Did you mean `vit-digits`"):
        check_name("vit-digts", ["vit-digits"])
