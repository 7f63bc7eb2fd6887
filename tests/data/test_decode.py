from __future__ import annotations

import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tfcli.data.images.decode import BadImage, decode
from tfcli.data.images.resize import Resize
from tfcli.errors import DataError


def png_bomb(path, side: int) -> None:
    """A PNG of side x side grey pixels in a few kilobytes, written without ever holding it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


@pytest.fixture
def photo() -> Image.Image:
    rows = np.linspace(0, 255, 40, dtype=np.uint8)[:, None, None]
    columns = np.linspace(0, 255, 60, dtype=np.uint8)[None, :, None]
    return Image.fromarray(
        np.broadcast_to(
            np.concatenate([rows + 0 * columns, columns + 0 * rows, 0 * rows + 0 * columns], 2), (40, 60, 3)
        ).astype(np.uint8)
    )


def test_plain_images(photo, tmp_path):
    for suffix in ("png", "jpg", "bmp", "webp", "tiff"):
        photo.save(tmp_path / f"a.{suffix}")
        image = decode(tmp_path / f"a.{suffix}")
        assert image.shape == (40, 60, 3)
        assert image.dtype == np.uint8
    assert np.array_equal(decode(tmp_path / "a.png"), np.asarray(photo))


def test_modes_become_rgb(photo, tmp_path):
    grey = photo.convert("L")
    grey.save(tmp_path / "grey.png")
    assert np.array_equal(decode(tmp_path / "grey.png")[..., 0], np.asarray(grey))
    photo.convert("P").save(tmp_path / "palette.png")
    assert decode(tmp_path / "palette.png").shape == (40, 60, 3)
    photo.convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(decode(tmp_path / "bits.png"))) == {0, 255}
    photo.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(decode(tmp_path / "cmyk.jpg").astype(int) - np.asarray(photo)).mean() < 8


def test_transparency_lies_over_white(tmp_path):
    half = np.zeros((4, 4, 4), dtype=np.uint8)
    half[:, 2:] = (255, 0, 0, 255)
    Image.fromarray(half).save(tmp_path / "rgba.png")
    image = decode(tmp_path / "rgba.png")
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[0, 3].tolist() == [255, 0, 0]
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.save(tmp_path / "transparent.png", transparency=bytes([0, 255]))
    assert decode(tmp_path / "transparent.png")[0, 0].tolist() == [255, 255, 255]


def test_sixteen_bits_are_scaled(tmp_path):
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert decode(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_orientation_is_applied(photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.jpg", exif=exif, quality=100)
    assert decode(tmp_path / "turned.jpg").shape == (60, 40, 3)


def test_first_frame(photo, tmp_path):
    photo.save(tmp_path / "moving.gif", save_all=True, append_images=[Image.new("RGB", photo.size, "white")])
    assert decode(tmp_path / "moving.gif").mean() < 200


def test_shorter_side_and_extreme_shapes(photo, tmp_path):
    photo.save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", resize=Resize(20)).shape == (20, 30, 3)
    assert decode(tmp_path / "a.png", resize=Resize(100)).shape == (40, 60, 3)
    photo.resize((1200, 800)).save(tmp_path / "large.jpg")
    assert decode(tmp_path / "large.jpg", resize=Resize(100)).shape == (100, 150, 3)
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    assert decode(tmp_path / "dot.png", resize=Resize(20)).shape == (1, 1, 3)
    Image.new("RGB", (10_000, 1)).save(tmp_path / "line.png")
    assert decode(tmp_path / "line.png").shape == (1, 10, 3)


def test_bad_files_name_path_and_reason(photo, tmp_path):
    photo.save(tmp_path / "whole.jpg")
    (tmp_path / "truncated.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:400])
    (tmp_path / "text.jpg").write_text("not an image at all")
    (tmp_path / "empty.jpg").write_bytes(b"")
    png_bomb(tmp_path / "bomb.png", 20_000)
    photo.save(tmp_path / "broken.png")
    damaged = bytearray((tmp_path / "broken.png").read_bytes())
    damaged[60:90] = bytes(30)
    (tmp_path / "broken.png").write_bytes(damaged)
    for name, reason in (
        ("truncated.jpg", "truncated"),
        ("text.jpg", "not an image"),
        ("empty.jpg", "empty"),
        ("bomb.png", "bomb"),
        ("broken.png", "broken.png"),
        ("absent.jpg", "No such file"),
    ):
        with pytest.raises(BadImage, match=reason) as caught:
            decode(tmp_path / name, resize=Resize(10))
        assert str(tmp_path / name) in str(caught.value)
        assert isinstance(caught.value, DataError)
        assert pickle.loads(pickle.dumps(caught.value)).reason == caught.value.reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(photo, tmp_path):
    photo.save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(BadImage, match="Permission"):
        decode(tmp_path / "a.png")
