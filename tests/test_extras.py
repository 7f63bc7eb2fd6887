"""What is printed to install an extra installs it: from a checkout, from git, from an index."""

from __future__ import annotations

import shlex
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

from tfcli import errors


def extras() -> dict[str, list[str]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def printed() -> set[str]:
    """The extras that messages of the program name."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tfcli").rglob("*.py")]
    return {text.split("'")[1] for source in sources for text in source.split("{install(")[1:]}


def test_a_checkout_is_installed_from_its_folder():
    assert printed() >= {"search", "slurm", "text", "tensorboard"}
    for extra in printed():
        assert extra in extras()
        *command, target = shlex.split(errors.install(extra))
        assert command == ["pip", "install", "-e"]
        folder, _, rest = target.partition("[")
        assert rest == f"{extra}]"
        assert (Path(folder) / "pyproject.toml").is_file()


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ('{"url": "https://x.org/t.git", "vcs_info": {"vcs": "git"}}', "tfcli[slurm] @ git+https://x.org/t.git"),
        ('{"url": "file:///home/me/tfcli", "dir_info": {}}', "tfcli[slurm] @ file:///home/me/tfcli"),
        (None, "tfcli[slurm]"),
    ],
)
def test_an_installed_tfcli_is_installed_from_where_it_came(origin, said, tmp_path, monkeypatch):
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "tfcli" / "errors.py"))
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: type("D", (), {"read_text": lambda *_: origin}))
    (requirement,) = shlex.split(errors.install("slurm"))[2:]
    assert requirement == said
    assert Requirement(requirement).extras == {"slurm"}
    assert distribution is not None
