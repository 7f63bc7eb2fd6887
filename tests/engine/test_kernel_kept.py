"""A run goes on with the attention kernel it began with, so that it resumes to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tfcli.engine.config.build import plain
from tfcli.engine.config.compose import compose
from tfcli.engine.runs.saved_config import saved_config
from tfcli.engine.train.prepare import asked_kernel


@pytest.mark.parametrize(
    ("words", "began", "kept"),
    [
        (["attn.kernel=explicit"], "explicit", "explicit"),
        ([], "flex", "flex"),
        (["attn=performer"], "exact", "auto"),  # an approximation is none to choose among
    ],
)
def test_a_run_goes_on_with_its_kernel(words, began, kept, tmp_path: Path) -> None:
    composed = compose("train", ["model=vit", "data=digits", *words])
    numerics = {"precision": "32-true", "kernel": began, "compile": False}
    stored = {**plain(composed.config), "choices": composed.choices, "numerics": numerics}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(stored))
    config, _ = saved_config(tmp_path)
    assert asked_kernel(config) == kept
