"""Simple models are computed once for the same data, task and code, and kept for later runs."""

from __future__ import annotations

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from tfcli.engine.train.baselines import baselines

FIGURES = {"trigram/loss": 0.1 + 0.2, "trigram/accuracy": 1 / 3, "a/tiny": 5e-324, "a/inf": float("inf")}


class Counting:
    """A task that counts how often its simple models are computed."""

    def __init__(self) -> None:
        self.calls = 0

    def baselines(self, data: Any) -> dict[str, float]:
        self.calls += 1
        return dict(FIGURES)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def parts(task: Any, *, fingerprint: str = "f", digest: str = "t", data: Any = (), of_task: Any = ()) -> Any:
    config = OmegaConf.create(
        {
            "data": {"split_seed": 0, "limit_train": None, "seed": 0, "batch_size": 8, **dict(data)},
            "task": {"scale": 1.0, "optim": {"lr": 0.1}, **dict(of_task)},
        }
    )
    served = SimpleNamespace(
        fingerprint=fingerprint,
        fingerprints={"train": fingerprint},
        bad_files=[],
        tokenizer=SimpleNamespace(digest=digest),
    )
    return SimpleNamespace(task=task, data=served, config=config)


def test_a_second_run_has_the_same_figures_without_computing_them() -> None:
    task = Counting()
    first = baselines(parts(task))
    changed = {"seed": 7, "batch_size": 32}
    for other in (parts(task), parts(task, data=changed), parts(task, of_task={"optim": {"lr": 1.0}})):
        found = baselines(other)
        assert list(found.items()) == list(first.items()) == list(FIGURES.items())
    assert task.calls == 1


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "g"},
        {"digest": "u"},
        {"data": {"split_seed": 1}},
        {"data": {"limit_train": 10}},
        {"of_task": {"scale": 2.0}},
    ],
)
def test_what_changes_the_figures_has_them_computed_anew(change: dict[str, Any]) -> None:
    task = Counting()
    for settings in ({}, change, {}, change):
        baselines(parts(task, **settings))
    assert task.calls == 2


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"figures": {"trigram/loss": 9.0}, "digest": "0"}', b"\xff"])
def test_a_damaged_file_is_computed_anew(cache: Path, content: bytes) -> None:
    task = Counting()
    baselines(parts(task))
    (file,) = (cache / "baselines").glob("*.json")
    whole = file.read_bytes()
    file.write_bytes(content)
    assert baselines(parts(task)) == FIGURES
    assert task.calls == 2
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    task = Counting()
    assert baselines(parts(task)) == baselines(parts(task)) == FIGURES
    assert task.calls == 2


def test_jobs_at_once_compute_them_once() -> None:
    both, task = Barrier(2), Counting()

    def job(_: int) -> dict[str, float]:
        own = parts(task)
        both.wait(10)
        return baselines(own)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(job, range(2))) == [FIGURES, FIGURES]
    assert task.calls == 1


def test_the_code_of_a_task_of_ones_own_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # both versions have one size, and perhaps one time
    code = "class Own:\n    def baselines(self, data):\n        return {'mean/loss': VALUE}\n"
    (tmp_path / ".#lock.py").symlink_to("nowhere")  # as editors leave them
    for value in (1.0, 2.0):
        (tmp_path / "own_task_for_baselines.py").write_text(code.replace("VALUE", str(value)))
        sys.modules.pop("own_task_for_baselines", None)
        importlib.invalidate_caches()
        own = importlib.import_module("own_task_for_baselines")
        assert baselines(parts(own.Own())) == {"mean/loss": value}
