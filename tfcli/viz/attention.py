"""Figures of attention: weights between tokens, an overview of all heads, and maps over an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfcli.shapes import Float
from tfcli.viz import style

NAMED = 120
"""Largest number of tokens whose names are shown."""


def rollout(layers: Sequence[Float[np.ndarray, "H N N"]]) -> Float[np.ndarray, "N N"]:
    """Compute attention rollout: the share of each input token in each output token.

    Abnar and Zuidema 2020, section 3: heads are averaged, half of each token is the residual connection, and layers are
    multiplied.

    Args:
        layers: attention weights of each layer, the first layer first.

    Returns:
        rows that sum to one: output tokens; columns: input tokens.
    """
    flow = np.eye(layers[0].shape[-1])
    for weights in layers:
        mixed = weights.astype(float).mean(0) / 2 + np.eye(len(flow)) / 2
        flow = mixed / mixed.sum(1, keepdims=True) @ flow
    return flow


def matrix(
    weights: Float[np.ndarray, "N M"],
    path: Path | str,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str | None = None,
    row_name: str = "",
    column_name: str = "",
    gamma: float = 1.0,
) -> None:
    """Draw attention weights in grey levels from 0 (black) to the largest (white), as figure 3 of Bahdanau et al. 2015.

    Args:
        weights: weight of each column's token for each row's token, in [0, 1].
        path: PNG file to write.
        rows, columns: the tokens.
        title: title above the figure.
        row_name, column_name: labels of the axes.
        gamma: exponent of the weights; values below 1 make small weights visible.

    Raises:
        ValueError: the numbers of tokens differ from the numbers of rows and columns.
    """
    if weights.shape != (len(rows), len(columns)):
        raise ValueError(f"`weights` must be ({len(rows)}, {len(columns)}), like the tokens, but is {weights.shape}.")
    from matplotlib.colors import PowerNorm

    longest = max(weights.shape)
    cell = 0.3 if longest <= 30 else max(0.1, 9 / longest)  # inches
    points = min(10.0, cell * 72 * 0.62)
    tall, wide = (cell * count for count in weights.shape)
    with style.figure(path, width=wide, height=tall, fitted=False) as figure:
        axis = figure.add_axes((0, 0, 1, 1))
        image = axis.imshow(weights, cmap="gray", norm=PowerNorm(gamma, vmin=0), interpolation="nearest", aspect="auto")
        named = longest <= NAMED
        axis.set_xticks(range(len(columns)) if named else [], list(columns) if named else [], fontsize=points)
        axis.set_yticks(range(len(rows)) if named else [], list(rows) if named else [], fontsize=points)
        axis.tick_params(length=0, labeltop=True, labelbottom=False)
        axis.tick_params(axis="x", labelrotation=90)
        axis.xaxis.set_label_position("top")
        axis.set(xlabel=column_name, ylabel=row_name)
        for spine in axis.spines.values():
            spine.set_visible(True)
        axis.set_title(title or "", pad=14)
        side = axis.inset_axes((1 + 0.15 / wide, 1 - min(1.0, 1.8 / tall), 0.12 / wide, min(1.0, 1.8 / tall)))
        bar = figure.colorbar(image, cax=side)
        bar.outline.set_edgecolor(style.FAINT)
        bar.ax.tick_params(labelsize=8, length=2)


def heads(
    layers: Sequence[Float[np.ndarray, "H N M"]], path: Path | str, *, title: str | None = None, gamma: float = 1.0
) -> None:
    """Draw every head of every layer as a small matrix, with one row for each layer.

    White is the largest weight of each head, so that the places of attention are visible in every head.

    Args:
        layers: attention weights of each layer; layers may have different numbers of heads.
        path: PNG file to write.
        title, gamma: as for `matrix`.
    """
    from matplotlib.colors import PowerNorm

    most = max(len(layer) for layer in layers)
    tall, wide = layers[0].shape[1:]
    side = 1.1 if most <= 12 else 0.8  # inches
    width, height = side * min(1.0, wide / tall) * most, side * min(1.0, tall / wide) * len(layers)
    with style.figure(path, width=max(3.0, width + 0.8), height=height + 0.9) as figure:
        axes = figure.subplots(len(layers), most, squeeze=False)
        for depth, (layer, line) in enumerate(zip(layers, axes, strict=True), 1):
            for number, axis in enumerate(line, 1):
                if number > len(layer):
                    axis.set_axis_off()
                    continue
                axis.imshow(layer[number - 1], cmap="gray", norm=PowerNorm(gamma, vmin=0), interpolation="nearest")
                axis.set_xticks([])
                axis.set_yticks([])
                if depth == 1:
                    axis.set_title(f"head {number}", fontsize=8, fontweight="normal", loc="center", pad=4)
                if number == 1:
                    axis.set_ylabel(f"layer {depth}", fontsize=8)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11)


def over_image(
    image: np.ndarray, maps: Mapping[str, Float[np.ndarray, "R C"]], path: Path | str, *, title: str | None = None
) -> None:
    """Draw an image, and maps over its patches as overlays of it.

    Args:
        image: (Y, X, 3), 0 to 255.
        maps: maps by name, with one value for each patch; each map has its own scale from dark to bright.
        path: PNG file to write.
        title: title above the figure.
    """
    pictures = {"image": None, **maps}
    across = min(5, len(pictures))
    down = -(-len(pictures) // across)
    grey = 0.6 * image.astype(float).mean(2)
    extent = (0.0, float(image.shape[1]), float(image.shape[0]), 0.0)
    with style.figure(path, width=1.9 * across, height=2.1 * down + 0.4) as figure:
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, (name, values) in zip(axes, pictures.items(), strict=False):
            axis.set_title(name, fontsize=9, fontweight="normal", loc="center", pad=4)
            if values is None:
                axis.imshow(image, extent=extent)
                continue
            axis.imshow(grey, cmap="gray", extent=extent, vmin=0, vmax=255)
            axis.imshow(values, cmap="inferno", extent=extent, alpha=0.65, interpolation="bilinear")
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11)
