"""Image stems by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from tfcli.nn.embeddings import ConvEmbed, PatchEmbed, Stem
from tfcli.nn.hybrid import HybridEmbed

StemName = Literal["patch", "overlap", "conv", "hybrid"]
STEMS: dict[str, Callable[..., Stem]] = {
    "patch": PatchEmbed,
    "overlap": partial(PatchEmbed, overlap=True),
    "conv": ConvEmbed,
    "hybrid": partial(HybridEmbed, blocks=(1,), stem_width=32),  # a size for images of 32 px and a few cores
}
"""Factories of stems by name, called as `stem(width, image_size=..., patch_size=...)`."""


def make_stem(stem: StemName | Callable[..., Stem], width: int, *, image_size: int, patch_size: int) -> Stem:
    """Build the stem of that name, or call the given factory.

    Raises:
        ValueError: there is no such stem, or the sizes do not divide.
    """
    if isinstance(stem, str):
        if stem not in STEMS:
            raise ValueError(f"`model.stem` must be one of {', '.join(STEMS)}, but is {stem!r}.")
        stem = STEMS[stem]
    return stem(width, image_size=image_size, patch_size=patch_size)
