"""The README's commands and transcripts: read, run small, and produced anew.

    python tests/readme.py             # run every transcript again and write what it prints into README.md
    python tests/readme.py vti digits  # only the transcripts whose command has one of these words

A transcript is a ```text block whose lines `$ command` are each followed by what the command prints, on stdout and
stderr. A line `…` stands for lines left out: as many are kept before and after it as stand there now. A line that ends
with ` …` is cut where it was cut. A transcript that ends with `Killed` is killed once its other lines are there.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


@dataclass
class Transcript:
    """A command of a ```text block with the lines that stand below it."""

    command: str
    lines: list[str]
    start: int  # the first of `lines`, counted in the README's lines


def blocks(language: str) -> list[tuple[int, list[str]]]:
    """Return the README's code blocks in a language: the number of their first line, and their lines."""
    found: list[tuple[int, list[str]]] = []
    inside: list[str] | None = None
    for number, line in enumerate(README.read_text(encoding="utf-8").splitlines()):
        if inside is None and line == f"```{language}":
            inside = []
            found.append((number + 1, inside))
        elif line == "```":
            inside = None
        elif inside is not None:
            inside.append(line)
    return found


def commands() -> list[str]:
    """Return every `tfcli` command of the README's ```sh blocks, without comments."""
    lines = [line.partition(" #")[0].strip() for _, block in blocks("sh") for line in block]
    return [part.strip() for line in lines for part in line.split("&&") if part.strip().startswith("tfcli ")]


def transcripts() -> list[Transcript]:
    """Return every command of the README's ```text blocks with what it printed."""
    found: list[Transcript] = []
    for first, block in blocks("text"):
        mine: list[Transcript] = []
        for number, line in enumerate(block, first):
            if line.startswith("$ "):
                mine.append(Transcript(line[2:], [], number + 1))
            elif mine:
                mine[-1].lines.append(line)
        found += mine
    return found


TINY = {
    "train": "data.limit_train=48 data.limit_val=24 data.limit_test=24 trainer.max_epochs=1 trainer.max_steps=2 "
    "trainer.precision=32 trainer.threads=1 trainer.patience=null logger=csv data.workers=0 data.baseline=false",
    "probe": "data.limit_train=220 data.limit_val=110 data.limit_test=110 features.threads=1 features.precision=32",
    "ablate": "--plan",
}
TINY |= dict.fromkeys(("zeroshot", "linear", "knn"), TINY["probe"])


def small(command: str, run: Path | None) -> list[str]:
    """Return a command of the README as words that take seconds: few samples, few steps, one choice of each list.

    Args:
        run: the folder that stands for `RUN`.
    """
    words = shlex.split(command)[1:]
    if run is not None:
        words = [re.sub(r"\b(RUN|latest)\b", str(run), word) for word in words]
    if "-m" in words:
        words = [re.sub(r"^([\w.]+=[^,\[({]+)(,[^,]+)+$", r"\1", word) for word in words]
    extra = shlex.split(TINY.get(words[0], ""))
    return words + extra + (["search.trials=2"] if "search=optuna" in words else [])


def run(words: list[str] | str, folder: Path, *, stop_after: int | None = None) -> tuple[int, list[str]]:
    """Run the program in a folder. Returns its exit code and its lines, those of stderr among them.

    Args:
        stop_after: kill it once so many lines have come.
    """
    if isinstance(words, str):
        words = shlex.split(words)[1:]
    environment = {**os.environ, "COLUMNS": "150", "PYTHONUNBUFFERED": "1"}
    lines: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", "tfcli", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if stop_after is not None and len(lines) >= stop_after:
                os.kill(process.pid, signal.SIGKILL)
                lines.append("Killed")
                break
    return process.returncode, lines


def shaped(old: list[str], new: list[str]) -> list[str]:
    """Return the new lines left out and cut as the old ones were."""
    if "…" in old:
        before = old.index("…")
        after = len(old) - before - 1
        new = [*new[:before], "…", *new[len(new) - after :]]
    was = [*old, *[""] * len(new)]
    return [line[: len(was[i]) - 2].rstrip() + " …" if was[i].endswith(" …") else line for i, line in enumerate(new)]


def write(words: list[str]) -> None:
    """Run the transcripts again and write what they print into the README."""
    text = README.read_text(encoding="utf-8").splitlines()
    wanted = [t for t in transcripts() if not words or any(word in t.command for word in words)]
    made: list[tuple[Transcript, list[str]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for transcript in wanted:
            print(f"$ {transcript.command}", flush=True)
            old = transcript.lines
            killed = len(old) - 1 - old.count("…") if old and old[-1] == "Killed" else None
            _, lines = run(transcript.command, Path(folder), stop_after=killed)
            made.append((transcript, shaped(old, lines)))
    for transcript, lines in reversed(made):
        text[transcript.start : transcript.start + len(transcript.lines)] = lines
    README.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1:])
