"""Files that tests write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def write(path: Path, content: str | bytes | np.ndarray) -> Path:
    """Write a text, bytes or an image, and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        Image.fromarray(content).save(path)
    elif isinstance(content, str):
        path.write_text(content)
    else:
        path.write_bytes(content)
    return path


def packaged_source(name: str) -> Any:
    """Return the source of a packaged set, as its config says."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    return instantiate(OmegaConf.load(Path(__file__).parents[1] / f"conf/data/{name}.yaml").source, _convert_="all")
