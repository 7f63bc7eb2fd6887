"""Source of video files, which PyAV decodes (the extra `video`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfcli.bounds import Count
from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.entries import foreign
from tfcli.data.common.fetch import NOWHERE, found_in, missing
from tfcli.data.common.printable import printable
from tfcli.data.common.request import Request
from tfcli.data.images.decode import BadImage
from tfcli.errors import DataError, install

SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg")


class VideoReader:
    """Reader of evenly spaced frames of videos.

    Args:
        frames: number of frames T of a clip, each from the middle of one of T equal parts of the video. Frames are
            repeated where the video is shorter.
        side: length to which the shorter side of larger frames is reduced, in pixels; None keeps the size.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(self, *, frames: int = 16, side: int | None = None):
        if frames < 1 or (side is not None and side < 1):
            raise ValueError(f"`frames` and `side` must be at least 1, but are {frames} and {side}.")
        self.frames, self.side = frames, side

    def __call__(self, path: Path) -> np.ndarray:
        """Return the clip of a file, (T, Y, X, 3) uint8 RGB.

        Raises:
            DataError: PyAV is not installed.
            BadImage: the file is not a video, or is truncated.
        """
        try:
            import av
        except ImportError:
            raise DataError(f"{printable(path)}: reading videos needs PyAV: {install('video')}.") from None
        try:
            with av.open(str(path)) as video:
                count = video.streams.video[0].frames
            count = count or sum(1 for _ in _decoded(path))  # some formats do not store the number of frames
            places = [int((i + 0.5) * count / self.frames) for i in range(self.frames)]
            found = {i: self._pixels(frame) for i, frame in enumerate(_decoded(path)) if i in places}
        except IndexError:
            raise BadImage(path, "the file has no pictures, only sound or data") from None
        except (av.error.FFmpegError, OSError) as error:
            raise BadImage(path, f"not a video that can be read ({error.strerror})") from None
        if not found or not found.keys() >= set(places):
            raise BadImage(path, f"the file is cut short: it should have {count} frames")
        return np.stack([found[place] for place in places])

    def _pixels(self, frame: Any) -> np.ndarray:
        width, height = frame.width, frame.height
        if self.side is not None and min(width, height) > self.side:
            width, height = (round(length * self.side / min(width, height)) for length in (width, height))
        return frame.reformat(width, height, "rgb24").to_ndarray()


def _decoded(path: Path) -> Iterator[Any]:
    """Yield the frames of a video."""
    import av

    with av.open(str(path)) as video:
        yield from video.decode(video=0)


class Videos:
    """Source of a folder of videos at any depth, sorted by path; all of them are the split train.

    Args:
        frames, side: as in `VideoReader`.
    """

    def __init__(self, *, frames: Count = 16, side: Count | None = None):
        self.reader = VideoReader(frames=frames, side=side)

    def locate(self, request: Request) -> Path | None:
        """Return the folder of the data set below the root, or the root itself where it has videos."""
        own = request.root / request.folder
        if own.is_dir():
            return own
        return request.root if any(map(_is_video, request.root.glob("*"))) else None

    def load(self, request: Request) -> LoadedTables:
        """Find the videos, which are decoded only when needed.

        Raises:
            DataError: there is no video.
        """
        root = self.locate(request)
        if root is None:
            raise missing(request, ["*" + "|*".join(SUFFIXES)], NOWHERE)
        return LoadedTables(self.read(root), where=root)

    def read(self, root: Path) -> dict[str, dict[str, Any]]:
        """Return the columns `name`, the path of a file below the root without its suffix, and `clip`.

        Raises:
            DataError: there is no video.
        """
        paths = list(filter(_is_video, sorted(root.rglob("*"))))
        if not paths:
            raise DataError(
                f"There is no video ({', '.join(SUFFIXES)}) in {printable(root)}, which has: {found_in(root)}."
            )
        names = [path.relative_to(root).with_suffix("").as_posix() for path in paths]
        return {"train": {"name": names, "clip": FileColumn(paths, self.reader)}}


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not foreign(path.name)
