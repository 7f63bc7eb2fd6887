"""Time the procedural set `shapes`: the cost of each column, of usual mixtures and of everything, single-threaded.

    python benchmarks/shapes.py [--size 64] [--objects 4] [--scenes 4096] [--at-least 2000]

Exits with 1 where image + caption takes longer than `--at-least` allows. CPU time is measured, so other programs on the
machine matter little.

Left out: the loader, augmentation and the way to the device, and the first batch, which fills the tables. There is no
other program beside it.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from tfcli.data.synthetic.scenes import FIELDS
from tfcli.data.synthetic.shapes import ShapesWorld

BATCH = 256
CLIPS = ("clip", "events", "story", "twin", "twin_story")
"""Columns of which each scene has sixteen pictures, or that tell of them."""
REQUIRED = ("image", "caption")
MIXTURES = {
    "image + caption": REQUIRED,
    "image + question": ("image", "question"),
    "image + semantic + boxes": ("image", "semantic", "boxes"),
    "image + right + disparity + occluded": ("image", "right", "disparity", "occluded"),
    "... + boxes + caption": ("image", "right", "disparity", "occluded", "boxes", "caption"),
    "image + second + statement": ("image", "second", "statement"),
    "everything but clips": tuple(name for name in FIELDS if name not in CLIPS),
    "everything": FIELDS,
}


def speed(world: ShapesWorld, fields: tuple[str, ...], count: int) -> float:
    """Return scenes per CPU second: the best of three passes, after a batch that fills the tables."""
    size = min(BATCH, count)
    world.batch(np.arange(size), fields=fields)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        for first in range(0, count, size):
            world.batch(np.arange(first, first + size), fields=fields)
        seconds.append(time.process_time() - start)
    return count / min(seconds)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=64, help="side of an image, in pixels")
    parser.add_argument("--objects", type=int, default=4, help="most objects of a scene")
    parser.add_argument("--scenes", type=int, default=4096, help="scenes that are made for each row")
    parser.add_argument("--at-least", type=float, default=2000, help="scenes per CPU second for image + caption")
    given = parser.parse_args()
    world = ShapesWorld(given.size, k=given.objects, vary=True)
    print(f"{'columns':40} {'scenes per CPU second':>22} {'microseconds a scene':>22}")
    for name, fields in {**{name: (name,) for name in FIELDS}, **MIXTURES}.items():
        count = max(1, given.scenes // 16) if {"clip", "twin"} & set(fields) else given.scenes
        found = speed(world, fields, count)
        print(f"{name:40} {found:>22,.0f} {1e6 / found:>22,.0f}", flush=True)
    found = speed(world, REQUIRED, given.scenes)
    print(f"image + caption: {found / given.at_least:.1f} x what is required")
    print("one process, CPU time, the best of three passes; left out: the loader, augmentation, the first batch")
    return 0 if found >= given.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
