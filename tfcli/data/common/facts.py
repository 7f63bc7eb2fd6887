"""Facts about a data set that its config states in addition to the arguments of the data module."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from tfcli.bounds import Bounds, Count, Natural


class Facts(TypedDict, total=False):
    """Facts that sources and messages read; a config may state further facts for its source or its models.

    Args:
        folder: folder of the data set below the root of all data sets; its name by default.
        epochs: default number of training epochs.
        patch_size: default patch size of models on these images, in pixels.
        url: web page of the data set.
        archives: files on this page that make up the data set.
        download_bytes: total size of these files.
        max_expansion: largest ratio of unpacked to packed size of an archive.
        counts: official number of samples of each split.
        encoding, separator, quotes: see `tfcli.data.sources.separated.How`.
        on_empty: whether a row with an empty cell is an error or is dropped.
        prompt: settings of the prompt of `tfcli fewshot`.
        whole: names of the facts that an override replaces entirely instead of merging.
    """

    folder: str | None
    epochs: Count
    patch_size: Count
    licence: str | None
    citation: str | None
    url: str | None
    archives: list[str] | None
    download_bytes: Natural | None
    max_expansion: Annotated[float, Bounds(low=1)]
    counts: dict[str, int] | None
    encoding: str | None
    separator: str | None
    quotes: bool | None
    on_empty: Literal["raise", "drop"]
    prompt: dict[str, Any] | None
    whole: list[str]
