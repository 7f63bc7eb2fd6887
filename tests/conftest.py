"""Shapes are checked at run time in every test; nothing reaches the network or the user's own folders."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from budget import (  # noqa: F401  hooks of pytest
    pytest_addoption,
    pytest_runtest_logreport,
    pytest_runtest_makereport,
    pytest_runtest_setup,
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_terminal_summary,
    pytest_testnodedown,
)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests share the machine; one thread is also repeatable
os.environ["TFCLI_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("WANDB_SILENT", "true")

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Check the shapes in annotations wherever jaxtyping and beartype are installed."""
    try:
        from jaxtyping import install_import_hook
    except ImportError:
        return
    install_import_hook(["tfcli.nn", "tfcli.decoding", "tfcli.models", "tfcli.metrics", "tfcli.tasks"], "typed.check")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    for name in ("TFCLI_RUN_DIR", "TFCLI_NUMERICS", "TFCLI_DATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data sets, `TFCLI_TEST_DATA`; tests that want them are skipped where it is not set."""
    return find_real_data() or pytest.skip("TFCLI_TEST_DATA names no folder of real data sets")


def find_real_data() -> Path | None:
    """Return the folder that `TFCLI_TEST_DATA` names; None where it names none."""
    folder = os.environ.get("TFCLI_TEST_DATA")
    return Path(folder).resolve() if folder and Path(folder).is_dir() else None


def program(
    *words: str, cwd: Path, timeout: float = 240, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own: for signals, ranks, sweeps and what only a process shows."""
    return subprocess.run(
        [sys.executable, "-m", "tfcli", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
    )


def tfcli(*words: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, in `cwd`: exit code, stdout and stderr are those of the program.

    What a process keeps to itself (working folder, environment, search path, streams, warnings) is put back.
    """
    from tfcli.cli.app import main

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        kept = dict(os.environ)
        patch.chdir(cwd)
        os.environ.update({"PYTHONPATH": str(ROOT), **(env or {})})
        patch.setattr(sys, "argv", ["tfcli", *words])
        patch.setattr(sys, "path", [str(cwd), *sys.path])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        code: object = None
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        finally:
            os.environ.clear()
            os.environ.update(kept)
    texts = [stream.buffer.getvalue().decode() for stream in (out, err) if not stream.flush()]
    return subprocess.CompletedProcess(words, code, *texts)


TINY = (
    "model=vit",
    "model.width=32",
    "model.depth=2",
    "model.heads=4",
    "data=digits",
    "data.limit_train=300",
    "logger=csv",
    "trainer.precision=32",
    "trainer.threads=1",
)
"""A run of seconds."""


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny run, made once. Do not write into it."""
    work = tmp_path_factory.mktemp("runs")
    done = tfcli("train", *TINY, "trainer.max_epochs=2", "run.dir=tiny", cwd=work)
    assert done.returncode == 0, done.stderr
    return work / "tiny"
