"""What a command may ask about images without importing torchvision: columns that hold them, and a bound."""

from __future__ import annotations

IMAGES = ("image", "right", "second")
CLIPS = ("clip", "twin")
PICTURES = (*IMAGES, *CLIPS)

LEVELS = 10
"""The largest magnitude of DeiT's RandAugment."""
