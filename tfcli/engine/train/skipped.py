"""List the image files that a run skips (`data.on_error=skip`): the first on screen, all in `bad_files.csv`."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcli.data.common.printable import printable
from tfcli.engine.runs.folder import is_child, say

MAX_NAMED = 5
FILE = "bad_files.csv"


def list_skipped(data: Any, folder: Path) -> None:
    """List the files that `data` has left out, and from now on those that it meets while it reads."""
    kept = SkippedFiles(folder)
    if not is_child():
        kept.add(data.bad_files, named=True)  # its notes have named them
    data.on_skip = kept.add


class SkippedFiles:
    """The list of skipped files in a run's folder; every rank appends the files that it meets, each once.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path):
        self.file, self.named = folder / FILE, 0

    def add(self, bad: Sequence[tuple[str, str]], *, named: bool = False) -> None:
        """Add files and why they cannot be used; the first few are named on screen unless they have been."""
        known = self._paths()
        new = [(path, reason) for path, reason in bad if path not in known]
        if not new:
            return
        with open(self.file, "a", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not file.tell():
                writer.writerow(["file", "reason"])
            writer.writerows(new)
            file.flush()
            os.fsync(file.fileno())
        if named:
            say(f"skipped files are listed in {FILE}")
            return
        for path, reason in new[: max(0, MAX_NAMED - self.named)]:
            say(f"skipped {printable(path)}: {reason}")
        if self.named < MAX_NAMED <= self.named + len(new):
            say(f"further skipped files are listed in {FILE}")
        self.named += len(new)

    def _paths(self) -> set[str]:
        if not self.file.exists():
            return set()
        with open(self.file, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return {row[0] for row in csv.reader(file) if row}
