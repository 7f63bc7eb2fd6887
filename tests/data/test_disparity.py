"""Stereo pairs: disparities in every format, and the files that belong together."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest
from written import packaged_source, write

from tfcli.data.images.disparity import UNKNOWN, read_disparity, read_occluded, read_pfm
from tfcli.data.sources.pairedfiles import MatchedFiles
from tfcli.errors import DataError

GREY = np.full((4, 6, 3), 90, dtype=np.uint8)


def pfm(values: np.ndarray, *, big: bool = False) -> bytes:
    """Return a portable float map of (Y, X) values."""
    order = ">" if big else "<"
    header = f"Pf\n{values.shape[1]} {values.shape[0]}\n{1.0 if big else -1.0}\n".encode()
    return header + values[::-1].astype(f"{order}f4").tobytes()


@pytest.mark.parametrize("big", [False, True])
def test_a_float_map_is_read_from_the_top(big, tmp_path):
    values = np.array([[1.5, 2, np.inf], [4, -5, 6]], dtype=np.float32)
    path = write(tmp_path / "d.pfm", pfm(values, big=big))
    assert np.array_equal(read_pfm(path), values)
    assert read_disparity(path).tolist() == [[1.5, 2, UNKNOWN], [4, 5, 6]]


def test_a_float_map_with_three_channels(tmp_path):
    values = np.arange(12, dtype="<f4").reshape(2, 2, 3)
    path = write(tmp_path / "c.pfm", b"PF\n2 2\n-1.0\n" + values[::-1].tobytes())
    assert np.array_equal(read_pfm(path), values)


def test_kittis_disparities_have_16_bits(tmp_path):
    path = write(tmp_path / "d.png", np.array([[0, 256, 640]], dtype=np.uint16))
    assert read_disparity(path).tolist() == [[UNKNOWN, 1, 2.5]]
    with pytest.raises(DataError, match="16 bits, but this file's mode is RGB"):
        read_disparity(write(tmp_path / "c.png", GREY))


def test_torn_disparities_are_refused(tmp_path):
    whole = pfm(np.ones((4, 5)))
    with pytest.raises(DataError, match="5 x 4 values take 80 bytes, but the file has 40"):
        read_pfm(write(tmp_path / "t.pfm", whole[:-40]))
    with pytest.raises(DataError, match="not a portable float map"):
        read_pfm(write(tmp_path / "n.pfm", struct.pack("<8f", *range(8))))
    with pytest.raises(DataError, match="No such file"):
        read_pfm(tmp_path / "nothing.pfm")


def test_pairs_are_found_by_their_names(tmp_path):
    for scene in ("b", "a"):
        folder = tmp_path / f"Middlebury2014/train/{scene}"
        for name in ("im0.png", "im1.png"):
            write(folder / name, GREY)
        write(folder / "disp0.pfm", pfm(np.ones((4, 6))))
    columns = packaged_source("middlebury2014").read(tmp_path)["train"]
    assert list(columns) == ["image", "right", "disparity"]  # nothing says what is occluded
    assert [path.parent.name for path in columns["image"].paths] == ["a", "b"]
    write(tmp_path / "Middlebury2014/train/a/mask0nocc.png", np.array([[255, 128, 0]], dtype=np.uint8))
    with pytest.raises(DataError, match="1 of 2 occluded files"):
        packaged_source("middlebury2014").read(tmp_path)
    assert read_occluded(tmp_path / "Middlebury2014/train/a/mask0nocc.png").tolist() == [[False, True, False]]
    (tmp_path / "Middlebury2014/train/b/im1.png").unlink()
    with pytest.raises(DataError, match=re.escape("1 of 2 right files are missing")):
        packaged_source("middlebury2014").read(tmp_path)


def test_names_in_braces_span_folders(tmp_path):
    for place in ("A/1/left/0.png", "A/2/left/10.png", "A/2/right/10.png", "A/1/right/0.png"):
        write(tmp_path / "frames/TRAIN" / place, GREY)
    sides = {"image": "left", "right": "right"}
    columns = {column: f"frames/{{split}}/{{scene}}/{side}/{{frame}}.png" for column, side in sides.items()}
    source = MatchedFiles({"train": "TRAIN", "test": "TEST"}, columns)
    assert source.expects == ["frames/TRAIN"]
    found = source.read(tmp_path)
    assert list(found) == ["train"]  # there is no folder `TEST`
    assert [path.relative_to(tmp_path / "frames/TRAIN").as_posix() for path in found["train"]["right"].paths] == [
        "A/1/right/0.png",
        "A/2/right/10.png",
    ]
    write(tmp_path / "frames/TEST/B/left/1.png", GREY)
    with pytest.raises(DataError, match=r"1 of 1 right files .*TEST/B/right/1\.png.* of these samples"):
        source.read(tmp_path)
    with pytest.raises(DataError, match=r"No file is called .*\n  Found in .*colored_0: no such folder"):
        packaged_source("kitti2012").read(tmp_path / "frames")


@pytest.mark.parametrize(
    ("name", "known"), [("kitti2012", 0.1), ("kitti2015", 0.1), ("middlebury2014", 0.8), ("flying_things", 1.0)]
)
def test_the_real_right_view_shows_what_the_disparity_says(real_data, name, known):
    columns = packaged_source(name).read(real_data / "stereo")["train"]
    image, right, disparity = (columns[name].take([0])[0] for name in ("image", "right", "disparity"))
    assert image.shape == right.shape == (*disparity.shape, 3)
    row, column = np.nonzero(disparity > 0)
    assert len(row) >= known * disparity.size
    there = np.round(column - disparity[row, column]).astype(int)
    inside = there >= 0
    row, column, there = row[inside], column[inside], there[inside]
    off, chance = (
        np.abs(right[row, place].astype(int) - image[row, column]).mean() for place in (there, np.roll(there, 97))
    )
    assert off < chance / 2  # unlike pixels by chance
    if "occluded" in columns:
        occluded = columns["occluded"].take([0])[0]
        assert 0.02 < occluded.mean() < 0.3
