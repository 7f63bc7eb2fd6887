"""The floors hold, the code reads as `ruff` writes it, and its types fit."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*words: str) -> None:
    """Run a module's program at the root of the repository; fail with what it says."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_floor_imports_from_above():
    if find_spec("importlinter") is None:
        pytest.skip("import-linter is not installed (pip install 'tfcli[test]')")
    run("-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))")


def test_ruff_is_content():
    if find_spec("ruff") is None:
        pytest.skip("ruff is not installed (pip install 'tfcli[dev]')")
    run("-m", "ruff", "check", ".")
    run("-m", "ruff", "format", "--check", ".")


@pytest.mark.slow  # about 40 s where mypy has no cache yet
def test_types_fit():
    if find_spec("mypy") is None:
        pytest.skip("mypy is not installed (pip install 'tfcli[dev]')")
    run("-m", "mypy")
