"""Measure the cost of attention: seconds and bytes against the length of the sequence, and the fitted exponents."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from math import isqrt, log
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from tfcli.engine.config.build import build, plain
from tfcli.engine.runs.folder import check_writable, locked, logged, run_folder, say, write_start
from tfcli.engine.runs.format import seconds, size
from tfcli.engine.runs.lifecycle import recorded
from tfcli.engine.runs.record import Record
from tfcli.engine.train.numerics import peak_memory
from tfcli.errors import ConfigError, IncompatibleError
from tfcli.metrics.info import FigureInfo
from tfcli.nn.attention import Plan
from tfcli.nn.places import Places

SHORT_S = 0.2
"""Passes are repeated for as long as this, in seconds: a millisecond alone says little."""


def attention(config: DictConfig, choices: dict[str, str], overrides: list[str]) -> tuple[Path, Record]:
    """Measure one attention as `conf/attn` makes it, on one thread, from the shortest length to the longest.

    A pass is a forward pass (with `bench.backward` a backward pass too) of one layer with its projections, or of one of
    each kind where layers alternate; the mask, which a model makes in its first pass and keeps, is not counted. Lengths
    whose cost, as the shorter ones foretell it, goes beyond the limits are left out and said.

    Returns:
        the run's folder and its record: metrics `seconds/n=N` (median), `bytes/n=N` (held at most in a pass),
        `time/exponent` and `memory/exponent` (`exponent` of these), and `longest`.

    Raises:
        ConfigError: the lengths do not rise, or the parts do not fit together.
        RunError: the folder cannot be written.
    """
    settings = plain(config.bench)
    lengths = settings["lengths"]
    if any(type(n) is not int or n < 1 for n in lengths) or lengths != sorted(set(lengths)) or len(lengths) < 3:
        raise ConfigError(f"`bench.lengths` must be three or more rising whole numbers, but is {lengths}.")
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    root = Path(config.run.root)
    check_writable(Path(config.run.dir) if config.run.dir else root)
    folder = run_folder("bench", f"{choices['attn']}-attention", root=root, given=config.run.dir)
    began = time.monotonic()
    record = Record("bench", "failed", model=choices["attn"], data="attention", task="attention", seed=config.seed)
    record.overrides = list(overrides)

    def cost() -> None:
        record.cost = {"seconds": time.monotonic() - began, "peak_memory_bytes": peak_memory()}

    with locked(folder), logged(folder), recorded(folder, record) as active:
        active.stop.doing, active.complete = "while it measured", cost
        write_start(folder, config=plain(config), overrides=overrides, devices="cpu")
        record.metrics, record.params = _measure(config, settings)
        record.figures = {n: FigureInfo(n, lower_is_better=True) for n in record.metrics if n != "longest"}
        cost()
    return folder, record


def _measure(config: DictConfig, settings: dict[str, Any]) -> tuple[dict[str, float], dict[str, int]]:
    times: dict[int, float] = {}
    held: dict[int, float] = {}
    count = 0
    for n in settings["lengths"]:
        if why := _beyond(n, times, held, settings):
            say(f"n = {n:,} and longer are left out: {why}")
            break
        step, count = one_pass(config, settings, n)
        step()  # masks and memory that are used for the first time
        held[n] = float(peak_bytes(step))
        times[n] = _median_time(step, settings["repeats"])
        say(f"n = {n:,}  {1000 * times[n]:,.2f} ms  {size(held[n])}")
    fitted = {"time/exponent": exponent(times), "memory/exponent": exponent(held)} if len(times) >= 3 else {}
    metrics = {**fitted, "longest": float(max(times))}
    metrics |= {f"seconds/n={n}": value for n, value in times.items()}
    metrics |= {f"bytes/n={n}": value for n, value in held.items()}
    return metrics, {"total": count, "trainable": count}


def one_pass(config: DictConfig, settings: dict[str, Any], n: int) -> tuple[Callable[[], None], int]:
    """Return a function that does one pass over `n` tokens, on a line or, where the pattern needs an image, on a grid.

    Returns it and the attention's number of parameters.
    """
    width, backward = settings["width"], settings["backward"]
    makers = build(config.attn)
    makers = [makers] if callable(makers) else makers  # layers that alternate: one of each

    def built(extent: tuple[int, ...]) -> nn.ModuleList:
        return nn.ModuleList(make(width, heads=settings["heads"], extent=extent, special=0) for make in makers)

    try:
        extent: tuple[int, ...] = (n,)
        layers = built(extent)
    except IncompatibleError:
        rows = max(d for d in range(1, isqrt(n) + 1) if n % d == 0)
        extent = (rows, n // rows)
        layers = built(extent)
    layers.train(backward)
    x = torch.randn(settings["batch_size"], n, width, requires_grad=backward)

    places = Places.grid(*extent)  # once, as in a model: what follows from them is worked out in the first pass

    def output() -> Tensor:
        out, plan = x, Plan(places)
        for layer in layers:
            out = layer(out, plan)
        return out

    def step() -> None:
        if not backward:
            with torch.no_grad():
                output()
            return
        layers.zero_grad()
        x.grad = None
        output().sum().backward()

    return step, sum(p.numel() for p in layers.parameters())


def peak_bytes(step: Callable[[], None]) -> int:
    """Return the most bytes of tensors that a pass holds at one time, as the allocator counts them."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    results = profiled.profiler.kineto_results if profiled.profiler is not None else None
    assert results is not None
    held = most = 0
    for event in results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def _median_time(step: Callable[[], None], repeats: int) -> float:
    """Return the median time of `repeats` passes, or of more where a pass is short."""
    found: list[float] = []
    while len(found) < repeats or (sum(found) < SHORT_S and len(found) < 100):
        begin = time.thread_time()  # of this thread: what other programs take of the machine does not count
        step()
        found.append(time.thread_time() - begin)
    return statistics.median(found)


def exponent(values: dict[int, float]) -> float:
    """Fit the slope of log value against log n over the longer half of the lengths, three at least (least squares)."""
    kept = sorted(values)[-max(3, (len(values) + 1) // 2) :]
    x, y = [log(n) for n in kept], [log(max(values[n], 1e-9)) for n in kept]
    return statistics.linear_regression(x, y).slope


def _beyond(n: int, times: dict[int, float], held: dict[int, float], settings: dict[str, Any]) -> str:
    """Return why length `n` would cost too much, if cost grows with its square; empty where it does not."""
    if not times:
        return ""
    last = max(times)
    growth = (n / last) ** 2
    bytes_free = min(settings["limit_gb"] * 1e9, 0.8 * _free())
    if times[last] * growth > settings["limit_s"]:
        return f"one pass might take {seconds(times[last] * growth)} (bench.limit_s={settings['limit_s']})"
    if held[last] * growth > bytes_free:
        return f"one pass might take {size(held[last] * growth)}; {size(bytes_free)} may be used (bench.limit_gb)"
    return ""


def _free() -> float:
    """Return the free memory of this machine in bytes."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        return float("inf")
