"""Facts about a set that its config states beside the arguments of its data module."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from tfcli.bounds import Bounds, Count, Natural


class Facts(TypedDict, total=False):
    """Facts that sources and messages read. A set may state further ones, for its source or its models to refer to.

    Args:
        folder: the set's folder below a folder of roots, where it is not the set's name.
        epochs: passes that a run takes when it is not told otherwise.
        patch_size: the natural patch of a set of images.
        url: the owner's page.
        archives: the files there that make the set.
        download_bytes: how large they are.
        max_expansion: times its own size that an archive may unpack to.
        counts: official samples of each split.
        encoding, separator, quotes: see `tfcli.data.sources.separated.How`.
        on_empty: what to do about a row with an empty cell.
        prompt: of `tfcli fewshot`.
        whole: names of the facts that an override replaces as a whole.
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
