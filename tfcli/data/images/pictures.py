"""Names of the columns that hold images and clips. Imports no torchvision, so that a command may ask without it."""

from __future__ import annotations

IMAGES = ("image", "right", "second")
CLIPS = ("clip", "twin")
PICTURES = (*IMAGES, *CLIPS)
