"""Frames of videos: the right ones, reduced, and what is said of files that are torn or none."""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from tfcli.data.sources.videos import VideoReader, Videos
from tfcli.errors import DataError


def film(path: Path, frames: int, *, size: tuple[int, int] = (32, 48), codec: str = "mpeg4") -> Path:
    """Write a video whose frames get brighter, one by one."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            picture = np.full((*size, 3), (10 + 10 * number) % 250, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


def brightness(clip: np.ndarray) -> list[float]:
    """Return the number of each frame of a `film`, as its brightness says."""
    return np.round((clip.reshape(len(clip), -1).mean(axis=1) - 10) / 10).tolist()


@pytest.mark.parametrize("ending", ["mp4", "avi", "mkv"])
def test_frames_are_evenly_spaced(ending, tmp_path):
    path = film(tmp_path / f"a.{ending}", 24)
    clip = VideoReader(frames=4)(path)
    assert clip.shape == (4, 32, 48, 3)
    assert clip.dtype == np.uint8
    assert brightness(clip) == [3, 9, 15, 21]
    assert brightness(VideoReader(frames=24)(path)) == list(range(24))


def test_a_short_video_repeats_frames(tmp_path):
    assert brightness(VideoReader(frames=6)(film(tmp_path / "a.mp4", 3))) == [0, 0, 1, 1, 2, 2]


def test_frames_are_reduced_and_never_enlarged(tmp_path):
    path = film(tmp_path / "a.mp4", 4, size=(32, 64))
    assert VideoReader(frames=2, side=16)(path).shape == (2, 16, 32, 3)
    assert VideoReader(frames=2, side=100)(path).shape == (2, 32, 64, 3)


def test_a_folder_of_videos(tmp_path):
    film(tmp_path / "b.mp4", 4)
    film(tmp_path / "deep/a.avi", 4)
    (tmp_path / "notes.txt").write_text("none")
    columns = Videos(frames=2).read(tmp_path)["train"]
    assert columns["name"] == ["b", "deep/a"]
    assert [clip.shape for clip in columns["clip"].take([1, 0])] == [(2, 32, 48, 3)] * 2
    with pytest.raises(DataError, match=r"There is no video \(\.mp4, .* has: no such folder"):
        Videos().read(tmp_path / "nothing")


def test_what_is_no_video_is_refused(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "t.mp4").write_bytes(b"not a video")
    with pytest.raises(DataError, match=r"t\.mp4: not a video that can be read \(Invalid data"):
        VideoReader()(tmp_path / "t.mp4")
    with pytest.raises(DataError, match="No such file"):
        VideoReader()(tmp_path / "nothing.mp4")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    with pytest.raises(DataError, match="no pictures, only sound or data"):
        VideoReader()(tmp_path / "sound.wav")


def test_a_torn_video_is_refused(tmp_path):
    whole = film(tmp_path / "a.avi", 60, size=(128, 128)).read_bytes()
    (tmp_path / "t.avi").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"t\.avi: the file is cut short: it should have 60 frames"):
        VideoReader(frames=8)(tmp_path / "t.avi")


def test_without_pyav_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"needs PyAV: pip install .*\[video\]"):
        VideoReader()(Path("a.mp4"))


def test_a_clip_needs_a_frame():
    with pytest.raises(ValueError, match="at least 1, but are 0 and None"):
        VideoReader(frames=0)


@pytest.mark.slow
def test_real_videos(real_data):
    pytest.importorskip("av")
    columns = Videos(frames=8, side=112).read(real_data / "videos")["train"]
    assert len(columns["name"]) == 7
    for name, clip in zip(columns["name"], columns["clip"].take(range(7)), strict=True):
        assert (len(clip), min(clip.shape[1:3])) == (8, 112), name
        assert any(not np.array_equal(clip[0], frame) for frame in clip[1:]), name
