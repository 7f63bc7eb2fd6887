"""Style of all figures: a palette for colour-blind readers, legible sizes, no display needed."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Paul Tol's "bright" and "muted" schemes (2021).
SPLITS = {"train": "#4477AA", "val": "#EE7733", "test": "#228833"}
INK = "#222222"
FAINT = "#9a9a9a"
RULE = "#e3e3e3"
SERIES = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SHADES = ("#ffffff", "#d4e3f2", "#8db6dc", "#4a86c0", "#1f558f", "#0b2447")

SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.labelsize": 10.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "savefig.dpi": 150.0,
    "figure.dpi": 150.0,
}


def _set_matplotlib_folder() -> None:
    """Set a temporary folder for matplotlib's font cache where the home folder cannot be written."""
    if "MPLCONFIGDIR" in os.environ:
        return
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "matplotlib"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK)
    except OSError:
        usable = False
    if not usable:
        os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="tfcli-matplotlib-")


@contextmanager
def figure(path: Path | str, *, width: float, height: float, fitted: bool = True) -> Iterator:
    """Yield a figure of `width` x `height` inches in our style, and write it to `path` at the end.

    Names may have any characters: they are not parsed as mathematics, and missing glyphs are drawn as boxes.

    Args:
        path: PNG file to write; its folder is created.
        width, height: size in inches.
        fitted: whether the layout fits the axes into the figure; otherwise they keep their places, and the figure is
            cropped around them.
    """
    _set_matplotlib_folder()
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawn = Figure(figsize=(width, height), layout="constrained" if fitted else None)
        FigureCanvasAgg(drawn)
        yield drawn
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            cut: dict[str, Any] = {} if fitted else {"bbox_inches": "tight", "pad_inches": 0.15}
            drawn.savefig(temporary, format="png", facecolor="white", **cut)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def shades():
    """Return a colour map from white to dark blue, for shares."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("tfcli", SHADES)
