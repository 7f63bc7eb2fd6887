"""The scripts in benchmarks/: the shares, table and time limits of `gpu.py`; each of the others runs at tiny size."""

from __future__ import annotations

import importlib
import io
import json
import multiprocessing
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks import gpu, walk
from benchmarks.clock import processor_s

ROWS = [
    {"part": "ceiling", "seconds": 3.0, "unit": "FLOP/s", "ours": 8e14, "note": "8192 x 8192, bf16"},
    {
        "part": "vit_b16",
        "seconds": 60.2,
        "unit": "images/s",
        "ours": 4000.0,
        "bare": 5000.0,
        "ratio": 0.8,
        "ratio_quartiles": [0.79, 0.81],
        "turns": 9,
        "flops": 1e11,
        "setup_s": [30.1, 20.2],
        "note": "batch 256",
    },
    {"part": "gpt2", "seconds": 65.0, "error": "out of time after 65 s"},
]


def test_the_share_of_the_ceiling_is_speed_times_flops_divided_by_it():
    rows = [dict(row) for row in ROWS]
    gpu.add_shares(rows)
    assert (rows[1]["share"], rows[1]["bare_share"]) == pytest.approx((0.5, 0.625))
    assert "share" not in rows[0] | rows[2]
    without = [dict(ROWS[1])]
    gpu.add_shares(without)
    assert "share" not in without[0]


def test_the_table_has_the_figures_of_each_part_or_why_there_are_none():
    rows = [dict(row) for row in ROWS]
    gpu.add_shares(rows)
    console = Console(file=io.StringIO(), width=200)
    console.print(gpu.table(rows, "H200"))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    (line,) = [line for line in lines if "vit_b16" in line]
    assert all(part in line for part in ("4,000 images/s", "0.80 [0.79, 0.81]", "50.0% / 62.5%", "30 + 20", "60"))
    assert any("gpt2" in line and "out of time after 65 s" in line for line in lines)
    assert any("800 TFLOP/s" in line for line in lines)


def test_a_part_that_fails_or_is_out_of_time_says_so_and_the_others_go_on():
    def slow() -> list[dict]:
        with suppress(Exception):  # it is no ordinary error
            time.sleep(60)
        return []

    def wrong() -> Iterator[dict]:
        yield {"ours": 0.5}
        raise RuntimeError("CUDA out of memory.\nTried to allocate")

    def refused() -> list[dict]:
        raise SystemExit("ours has 3 parameters, the bare model 4")

    parts = {"slow": slow, "wrong": wrong, "refused": refused, "good": lambda: [{"ours": 1.0}, {"ours": 2.0}]}
    told: list[dict] = []
    limits = {"slow": 0.1, "wrong": 50, "refused": 50, "good": 50}
    rows = gpu.measure(parts, limits, began=time.monotonic(), told=told.append)
    assert [row["part"] for row in rows] == ["slow", "wrong", "wrong", "refused", "good", "good"]
    assert rows[0]["error"].startswith("out of time after 0 s")
    assert rows[1]["ours"] == 0.5
    assert rows[2]["error"] == "RuntimeError: CUDA out of memory."
    assert rows[3]["error"] == "SystemExit: ours has 3 parameters, the bare model 4"
    assert [row["ours"] for row in rows[4:]] == [1.0, 2.0]
    assert told == rows


def test_all_parts_together_take_less_than_six_minutes():
    assert sum(gpu.LIMITS_S.values()) < 360


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_a_line_and_exits_with_2(capsys: pytest.CaptureFixture[str]):
    assert gpu.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as end:
        gpu.main(["--device", "cpu"])
    assert end.value.code == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_each_part_of_the_gpu_benchmark_runs_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path))
    code = gpu.main(["--device", "cpu", "--tiny", "--json", str(tmp_path / "gpu.json")])
    facts = json.loads((tmp_path / "gpu.json").read_text())
    assert [row for row in facts["rows"] if "error" in row] == []
    assert code == 0
    assert {row["part"] for row in facts["rows"]} == set(gpu.LIMITS_S)
    trained = [row for row in facts["rows"] if "flops" in row]
    assert len(trained) == 8
    for row in trained:
        assert row["share"] == pytest.approx(row["ours"] * row["flops"] / facts["rows"][0]["ours"])
    assert "Left out: validation" in capsys.readouterr().out


CPU = "--threads 1 --clock cpu"
SCRIPTS = {
    f"train_throughput --quick --only micro --no-accuracy {CPU}": r"the trainer takes -?[\d.]+ ms more than it",
    f"text_throughput --quick --only small --precision 32 {CPU}": r"GPT-2 by hand, fp32, .* ratio [\d.]+ \[",
    f"text_throughput --quick --only sampling {CPU}": r"sampling 16 tokens after 1: kept \d+ .* by hand \d+, ratio",
    "distillation 1 --seeds 20 21": r"soft - none +[+-][\d.]+, standard error",
    "windows --side 14 --batch 1 --turns 2 --clock cpu": r"partition is [\d.]+ \[.*\] times as fast as the dense mask",
    "baselines model=vit data=digits model.depth=1": r"first run +[\d.]+ s +second +[\d.]+ s",
    "corpus --megabytes 1": r"second start +[\d.]+ s",
    "shapes --size 32 --scenes 32 --at-least 1": r"image \+ caption: [\d,.]+ x what is required",
}


@pytest.fixture
def quiet_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder, and put back what the scripts set for their whole process."""
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path))
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("quiet_process")
@pytest.mark.parametrize("command", list(SCRIPTS))
def test_each_script_prints_its_figures_and_what_it_leaves_out(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    name, *words = command.split()
    monkeypatch.setattr(sys, "argv", [name, *words])
    assert not importlib.import_module(f"benchmarks.{name}").main()
    out = capsys.readouterr().out
    assert re.search(SCRIPTS[command], out), out
    assert "left out: " in out


def test_the_walk_lists_the_files_of_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["walk", "ls", "models"])
    before = sys.gettrace()
    walk.main()
    sys.settrace(before)
    out = capsys.readouterr().out
    assert "tfcli ls models: " in out
    assert "cli/ls.py" in out
    assert "engine/train/run.py" not in out


def test_the_processor_time_of_children_counts():
    def busy(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    before, own = processor_s(), time.process_time()
    child = multiprocessing.get_context("fork").Process(target=busy, args=(0.2,))
    child.start()
    deadline = time.monotonic() + 60
    while processor_s() - before < 0.1 and time.monotonic() < deadline:  # while it lives
        time.sleep(0.01)
    child.join()
    assert processor_s() - before - (time.process_time() - own) == pytest.approx(0.2, abs=0.1)
