"""What the README says is what the program does."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import tfcli
from PIL import Image
from readme import blocks, commands, small, transcripts

ABSENT = ("TFCLI_OFFLINE", "sbatch", "holds no weights")
"""Words of the refusals that the README's commands may meet here: public weights, a folder of them, a cluster."""


def refusals() -> list:
    return [t for t in transcripts() if t.lines and t.lines[0].startswith("tfcli: ")]


def run(words: list[str], folder: Path) -> tuple[int, list[str]]:
    """Run a command in a folder. Returns its exit code and its lines, those of stderr last."""
    done = tfcli(*words, cwd=folder, env={"COLUMNS": "150"})
    return done.returncode, [*done.stdout.splitlines(), *done.stderr.splitlines()]


def test_there_are_commands_and_refusals():
    assert len(commands()) > 40
    assert len(refusals()) >= 2


@pytest.mark.parametrize("transcript", refusals(), ids=lambda t: t.command)
def test_a_refusal_is_printed_as_the_readme_shows_it(transcript, tmp_path: Path):
    code, lines = run(shlex.split(transcript.command)[1:], tmp_path)
    assert (code, lines) == (2, transcript.lines)
    assert not any(tmp_path.iterdir())


def inputs(folder: Path) -> None:
    """Make the files that the README's commands name: photos, a pair of texts, a model of one's own."""
    rng = np.random.default_rng(0)
    places = [f"photos/{name}/{i}.jpg" for name in ("cat", "dog") for i in range(30)]
    for place in [*places, "photo.jpg", "holiday.jpg", "more-photos/a.jpg"]:
        file = folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 48, 3)).astype("uint8")).save(file)
    (folder / "FOLDER").mkdir()
    for language, text in (("de", "Das ist Satz {}."), ("en", "This is sentence {}.")):
        (folder / "FOLDER" / f"train.{language}").write_text("".join(text.format(i) + "\n" for i in range(90)))
    (python,), yamls = blocks("python"), blocks("yaml")
    (folder / "my_net.py").write_text("\n".join(python[1]))
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "mine.yaml").write_text("\n".join(yamls[0][1]))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_command_runs_from_top_to_bottom(real_data: Path, tmp_path: Path, monkeypatch):
    """Small and in order. `RUN` stands for the newest run that suits; weights that are not here are named."""
    monkeypatch.setenv("TFCLI_DATA", str(real_data))
    monkeypatch.setenv("HOME", str(tmp_path))
    inputs(tmp_path)
    faults = []
    for command in commands():
        runs = sorted(tmp_path.glob("outputs/train/*/*/checkpoints"), key=os.path.getmtime, reverse=True)
        wanted = "RUN" in command or ("latest" in command and "predict" in command)
        answers = []
        for made in [folder.parent for folder in runs] if wanted else [None]:
            words = small(command, made)
            code, lines = run(words, tmp_path)
            if code == 2 and "data.verify=false" in lines[-1]:  # these are parts of the sets
                code, lines = run([*words, "data.verify=false"], tmp_path)
            answers.append((code, words, "\n".join(lines)))
            assert "Traceback" not in answers[-1][2], answers[-1][2]
            if code == 0:
                break
        code, words, said = min(answers, key=lambda answer: answer[0])
        print(code, shlex.join(words), said[-300:], sep="\n", flush=True)
        if code != 0 and not (code in (2, 4) and any(word in said for word in ABSENT)):
            faults.append(f"{code}: tfcli {shlex.join(words)}\n{said[-600:]}")
    assert not faults, "\n\n".join(faults)
