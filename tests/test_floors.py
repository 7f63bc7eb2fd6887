"""No floor imports from above. (ruff and mypy are steps of the gate, .ci/run.)"""

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
