"""Shapes are checked at run time in every test; nothing reaches the network or the user's own folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
def shared_data() -> Path:
    """Real data sets beside the checkout; tests that want them are skipped where they are not."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data sets at {folder}")
    return folder


def tfcli(
    *words: str, cwd: Path, timeout: float = 240, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the program as a user would, in `cwd`."""
    return subprocess.run(
        [sys.executable, "-m", "tfcli", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
    )


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
