"""A cache that takes more space than it leaves free loses what has not been used for longest."""

from __future__ import annotations

import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest

from tfcli.data.common.cachespace import RECENT_S, make_room, mark_used

DAY = 2 * RECENT_S


def entry(folder: Path, name: str, *, days: float) -> Path:
    """Write an entry of 1,000 bytes that was used some days ago."""
    made = folder / name
    if made.suffix:
        made.write_bytes(bytes(1000))
    else:
        made.mkdir()
        (made / "ids").write_bytes(bytes(1000))
    lock = made.with_suffix(".lock")
    lock.touch()
    os.utime(lock, (time.time() - days * DAY,) * 2)
    return made


@pytest.mark.parametrize(("free", "left"), [(5000, "abcde"), (4000, "abce"), (2500, "abc"), (0, "bc"), (-9000, "c")])
def test_the_oldest_use_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, left: str) -> None:
    entries = {name[0]: entry(tmp_path, name, days=days) for name, days in (("a", 2), ("b.txt", 1), ("e", 3))}
    entries |= {"d": entry(tmp_path, "d.txt", days=4), "c": entry(tmp_path, "c", days=9)}
    mark_used(entries["c"])
    kept = tmp_path / "facts.json"  # it has no lock, and is small
    kept.write_text("{}")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(free))
    make_room(tmp_path)
    assert "".join(sorted(name for name, path in entries.items() if path.exists())) == left
    assert kept.exists()
    assert not list(tmp_path.glob("*.tmp"))
