"""What an attention costs: exponents of memory, which the allocator counts exactly; nothing here reads a clock."""

from __future__ import annotations

import json

import pytest
from conftest import tfcli

from tfcli.engine.config.build import plain
from tfcli.engine.config.compose import compose
from tfcli.engine.tools.bench import _beyond, attention, exponent, one_pass, peak_bytes
from tfcli.errors import ConfigError


def memory_exponent(*overrides: str, backward: bool = False, lengths=(512, 1024, 2048)) -> float:
    config = compose("bench", [*overrides, f"bench.backward={str(backward).lower()}"]).config
    held = {}
    for n in lengths:
        step, _ = one_pass(config, plain(config.bench), n)
        step()
        held[n] = float(peak_bytes(step))
    return exponent(held)


@pytest.mark.parametrize("backward", [False, True])
def test_memory_grows_with_the_square_or_with_the_length(backward):
    exponent = memory_exponent("attn=full", "attn.kernel=explicit", backward=backward)
    assert 1.8 < exponent < 2.1
    for attn in ("linear", "performer", "linformer", "sliding"):
        assert 0.8 < memory_exponent(f"attn={attn}", backward=backward) < 1.2, attn
    assert memory_exponent("attn=full", backward=backward) < 1.3, "the fused softmax keeps no weights"


def test_a_pattern_of_images_is_measured_on_a_grid():
    config = compose("bench", ["attn=axial"]).config
    step, count = one_pass(config, plain(config.bench), 64)
    step()
    assert count == 4 * 64 * 64 + 4 * 64


def test_exponents_are_fitted_to_the_longer_half():
    values = {n: float(n**2) for n in (256, 512, 1024, 2048)}
    assert exponent(values) == pytest.approx(2)
    assert exponent({**{n: 7.0 for n in (16, 32, 64)}, **values}) == pytest.approx(2)


def test_lengths_beyond_the_limits_are_left_out_with_the_reason():
    limits = {"limit_s": 1.0, "limit_gb": 1.0}
    assert _beyond(512, {}, {}, limits) == ""
    assert _beyond(512, {256: 0.1}, {256: 1e3}, limits) == ""
    assert "bench.limit_s" in _beyond(2048, {256: 0.1}, {256: 1e3}, limits)
    assert "bench.limit_gb" in _beyond(2048, {256: 1e-4}, {256: 5e8}, limits)


def test_a_length_is_a_number_that_rises():
    job = compose("bench", ["bench.lengths=[64,32,16]"])
    with pytest.raises(ConfigError, match="rising"):
        attention(job.config, job.choices, job.overrides)


def test_the_command_leaves_a_record(tmp_path):
    done = tfcli("bench", "attention", "attn=linear", "bench.lengths=[32,64,128]", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["status"], record["model"], record["metrics"]["longest"]) == ("finished", "linear", 128)
    assert {"time/exponent", "memory/exponent", "seconds/n=32", "bytes/n=128"} <= set(record["metrics"])
    assert "n = 128" in done.stderr
