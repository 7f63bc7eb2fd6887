"""The files of tfcli/ that a command walks through: how much must be read to follow it?

    python benchmarks/walk.py train model=vit data=digits      # until the first step of training
    python benchmarks/walk.py probe vit digits                 # to its end

Counts the files whose functions are entered (the bodies of modules and classes are not, nor comprehensions in them),
and lists the pairs of files that call each other both ways. Run in a folder of its own: a probe writes its run there.
A training whose arithmetic is measured first takes its first step there: `trainer.precision=32` measures nothing.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import tfcli

PACKAGE = f"{Path(tfcli.__file__).parent}/"
COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
OPTIMIZED = 1  # flag of the code of functions: bodies of modules and classes lack it


class Reached(BaseException):
    """The first step of training begins."""


def walk(words: list[str]) -> tuple[set[str], set[tuple[str, str]]]:
    """Run a command; return the files that it enters, and who calls whom."""
    entered: set[str] = set()
    calls: set[tuple[str, str]] = set()

    def trace(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE) or not code.co_flags & OPTIMIZED:
            return
        if code.co_name in COMPREHENSIONS and frame.f_back and not frame.f_back.f_code.co_flags & OPTIMIZED:
            return
        file = code.co_filename.removeprefix(PACKAGE)
        entered.add(file)
        caller = frame.f_back.f_code if frame.f_back else None
        if caller and caller.co_filename.startswith(PACKAGE) and caller.co_flags & OPTIMIZED:
            calls.add((caller.co_filename.removeprefix(PACKAGE), file))
        if code.co_name == "training_step":
            raise Reached

    from tfcli.cli.app import main  # every verb is mounted here, whichever was asked for: that is no part of the walk

    sys.argv = ["tfcli", *words]
    threading.settrace(trace)
    sys.settrace(trace)
    try:
        main()
    except (Reached, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code:
            raise
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
    return entered, calls


def main() -> None:
    words = sys.argv[1:] or ["train", "model=vit", "data=digits"]
    entered, calls = walk(words)
    both = sorted((a, b) for a, b in calls if a < b and (b, a) in calls)
    print(f"tfcli {' '.join(words)}: {len(entered)} files")
    print("  " + "  ".join(sorted(entered)))
    print(f"pairs that call each other both ways: {len(both)}", *(f"\n  {a} <-> {b}" for a, b in both))


if __name__ == "__main__":
    main()
