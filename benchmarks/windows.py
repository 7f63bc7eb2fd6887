"""Windows by partition beside the dense mask and block-sparse attention: seconds of a layer, in turns.

The layer is that of Swin-T's first stage: 56 x 56 tokens of width 96, 3 heads, windows of 7, a table of offsets.

    python benchmarks/windows.py [--side 56] [--batch 2] [--threads 1] [--clock wall|cpu]

Left out: the rest of a model, and each kernel's first pass, which makes masks, cells and blocks that a model keeps.
There is no other program beside it: the dense mask through PyTorch's attention is the peer.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.turns import CLOCKS, quartiles, seconds, set_clock
from tfcli.nn.attention import Attention, Plan, set_kernel
from tfcli.nn.offset_tables import RelativeTable
from tfcli.nn.patterns import Windows
from tfcli.nn.places import Places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=56, help="tokens on each side")
    parser.add_argument("--size", type=int, default=7, help="side of a window")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    set_clock(given.clock)
    torch.set_num_threads(given.threads)
    places, n = Places.grid(given.side, given.side), given.side**2
    print(f"{given.side} x {given.side} tokens, windows of {given.size}: {given.size**2 / n:.2%} of the scores")
    for shift in (0, given.size // 2):
        layer = Attention(96, heads=3, pattern=Windows(given.size, shift))
        pos = RelativeTable(96, heads=3, extent=places.extent, special=0, size=given.size)
        x = torch.randn(given.batch, n, 96, requires_grad=True)

        def step(kernel: str, layer: Attention = layer, pos: RelativeTable = pos, x: torch.Tensor = x) -> None:
            set_kernel(layer, kernel)
            layer(x, Plan(places, pos)).sum().backward()

        took: dict[str, list[float]] = {"partition": [], "flex": [], "exact": []}
        for turn in range(given.turns + 1):
            for kernel, times in took.items():
                spent = seconds(partial(step, kernel))
                if turn:  # the first makes masks, cells and blocks, which a model keeps
                    times.append(spent)
        middle = {kernel: median(times) for kernel, times in took.items()}
        print(f"shift {shift}: " + ", ".join(f"{kernel} {value * 1000:.0f} ms" for kernel, value in middle.items()))
        for kernel, name in (("exact", "the dense mask"), ("flex", "blocks")):
            pairs = zip(took[kernel], took["partition"], strict=True)
            low, ratio, high = quartiles(sorted(other / own for other, own in pairs))
            print(f"    partition is {ratio:.1f} [{low:.1f}, {high:.1f}] times as fast as {name}")
    print(f"{given.threads} threads, {given.clock} time, {given.turns} turns; left out: each kernel's first pass")


if __name__ == "__main__":
    main()
