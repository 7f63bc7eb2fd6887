"""Outcomes of runs on the same test images."""

from __future__ import annotations

import numpy as np
import pytest

from tfcli.engine.runs.paired import (
    NAME,
    paired_runs,
    paired_translations,
    read_outcomes,
    write_outcomes,
    write_translations,
)
from tfcli.engine.runs.record import read_record
from tfcli.errors import RunError


def test_a_run_keeps_which_test_images_it_got_right(tiny_run):
    outcomes, record = read_outcomes(tiny_run), read_record(tiny_run)
    assert outcomes is not None
    assert outcomes.index.tolist() == list(range(record.counts["test"]))
    assert outcomes.correct.mean() == pytest.approx(record.metrics["test/accuracy"])
    assert np.array_equal(outcomes.correct, outcomes.label == outcomes.guess)


def written(folder, guess, *, fingerprint="a"):
    folder.mkdir()
    label = np.zeros(len(guess), dtype=int)
    write_outcomes(
        folder, index=np.arange(len(guess)), label=label, guess=guess, data="digits", fingerprint=fingerprint
    )
    return folder


def test_runs_are_compared_on_the_same_images_only(tmp_path):
    first = written(tmp_path / "a", [0, 1, 1, 0])
    second = written(tmp_path / "b", [0, 0, 0, 1])
    other = written(tmp_path / "c", [0, 0, 0, 1], fingerprint="b")
    bare = tmp_path / "d"
    bare.mkdir()
    found, unlike, nothing = paired_runs([first, second, other, bare])
    assert found is not None
    assert (found["difference"], found["better"], found["worse"], found["images"]) == (0.25, 2, 1, 4)
    assert unlike is nothing is None


def test_a_torn_file_is_named(tmp_path):
    run = written(tmp_path / "a", [0, 1])
    (run / NAME).write_bytes((run / NAME).read_bytes()[:40])
    with pytest.raises(RunError, match=r"outcomes\.safetensors.*cannot be read"):
        read_outcomes(run)


def test_translators_are_compared_on_the_same_sentences_only(tmp_path):
    rng = np.random.default_rng(0)
    said = [" ".join(rng.choice(list("abcdefgh"), 8)) + ' "' for _ in range(60)]
    spoiled = [f"x {text}" if i % 2 else "nothing at all" for i, text in enumerate(said)]
    for name, ours, sources in (("a", spoiled, said), ("b", said, said), ("c", spoiled, said), ("d", said, said[:59])):
        (tmp_path / name).mkdir()
        write_translations(tmp_path / name, sources=sources, references=said[: len(sources)], ours=ours[: len(sources)])
    (tmp_path / "e").mkdir()
    better, same, fewer, nothing = paired_translations([tmp_path / name for name in "abcde"])
    assert better is not None
    assert same is not None
    assert (better["sentences"], better["p"] < 0.01, better["difference"] > 10) == (60, True, True)
    assert (same["difference"], same["p"]) == (0.0, 1.0)
    assert fewer is nothing is None
