"""Small stacks of every kind, for the tests of the core."""

from __future__ import annotations

from functools import partial

import torch

from tfcli.nn import approximations as approx
from tfcli.nn import patterns as pat
from tfcli.nn import positions as pos
from tfcli.nn import relative as rel
from tfcli.nn.attention import Attention
from tfcli.nn.hashing import Reformer
from tfcli.nn.offset_tables import RelativeTable
from tfcli.nn.stack import Stack

WIDTH = 48
POSITIONS = {
    "none": pos.Position,
    "learned": pos.Learned,
    "learned2d": pos.Learned2d,
    "random": pos.Random,
    "sinusoidal": pos.Sinusoidal,
    "rope": rel.Rope,
    "rope interleaved": partial(rel.Rope, layout="interleaved"),
    "rope in part": partial(rel.Rope, base=100.0, fraction=0.5),
    "alibi": rel.Alibi,
    "relative": rel.Relative,
    "relative, clipped": partial(rel.Relative, max_distance=2, at="shared"),
    "relative on axes": partial(rel.Relative, flat=False),
    "relative table": RelativeTable,
    "relative table of windows": partial(RelativeTable, size=2, class_rows=False, at="shared"),
    "relative buckets": partial(rel.RelativeBuckets, buckets=8, max_distance=6),
    "relative buckets, one way": partial(rel.RelativeBuckets, bidirectional=False, at="every"),
}
SHIFTLESS = [
    "rope",
    "rope interleaved",
    "rope in part",
    "alibi",
    "relative on axes",
    "relative table",
    "relative table of windows",
    "relative buckets",
]
"""Kinds that know offsets alone."""
PATTERNS = {
    "full": pat.Full(),
    "causal": pat.Causal(),
    "prefix": pat.Prefix(2),
    "sliding": pat.SlidingWindow(4),
    "windows": pat.Windows(3),
    "windows, shifted": pat.Windows(2, 1),
    "windows, unfilled": pat.Windows(3, 2, padded=False),
    "causal windows": pat.Windows(2) & pat.Causal(),
    "dilated": pat.Dilated(4, 2),
    "axial": pat.Axial(),
    "longformer": pat.longformer(size=2, count=1),
    "bigbird": pat.bigbird(size=3),
    "causal sliding": pat.SlidingWindow(4) & pat.Causal(),
}
SEQUENTIAL = ["causal", "causal sliding"]
"""Patterns in which nobody sees what follows."""
APPROXIMATIONS = {
    "linear": approx.Linear,
    "performer": partial(approx.Performer, num_features=16),
    "linformer": partial(approx.Linformer, rank=2),
    "linformer, all own": partial(approx.Linformer, rank=1, share="none"),
    "linformer, values too": partial(approx.Linformer, rank=1, share="values"),
    "reformer": partial(Reformer, chunk=2, rounds=2),
}


def stack(
    *, kind="learned", pattern=None, kernel="auto", extent=(3, 3), special=1, width=WIDTH, heads=2, **more
) -> Stack:
    """Two blocks, the same ones each time."""
    torch.manual_seed(0)
    where = {"at": more.pop("at")} if "at" in more else {}
    net = Stack(
        WIDTH,
        depth=more.pop("depth", 2),
        heads=2,
        attn=more.pop("attn", None) or partial(Attention, pattern=pattern or pat.Full(), kernel=kernel),
        pos=partial(POSITIONS[kind] if isinstance(kind, str) else kind, **where),
        extent=extent,
        special=special,
        **more,
    )
    for name, table in net.named_parameters():  # what starts near zero would hide a mistake
        if "positions" in name:
            torch.nn.init.normal_(table, std=0.5)
    return net.eval()
