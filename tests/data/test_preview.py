"""Previews show each kind of column as what it is: checked against the pixels of small tables made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tfcli.data.images.drawings import BESIDE, DRAWINGS, fitted, panel
from tfcli.data.images.masks import VOID
from tfcli.data.images.panels import INK, colours, font, legend, wrapped, written
from tfcli.data.images.preview import sheet, spelled, text_lines

SIZE = (80, 80)
GREY = np.full((8, 8, 3), 100, np.uint8)


def drawn(name, sample, classes=None):
    """Return the pixels of a column's drawing (Y, X, 3), without its name."""
    return np.asarray(panel(sample, name, SIZE, classes or {}, titled=False)).astype(int)


def has(pixels, colour, within=2):
    return bool((np.abs(pixels - np.array(colour)).max(axis=-1) <= within).any())


def test_a_mask_lies_over_its_image_and_names_its_classes():
    mask = np.zeros((8, 8), np.uint8)
    mask[:4, 4:], mask[7] = 2, VOID
    pixels = drawn("mask", {"image": GREY, "mask": mask}, {"mask": ["background", "cat", "dog"]})
    _, cat, dog = colours(3)
    quarter, ground, void = pixels[:40, 40:80], pixels[:60, :40], pixels[71:80, :80]
    assert (quarter == quarter[0, 0]).all()
    assert (np.sign(quarter[0, 0] - ground[0, 0]) == np.sign(np.array(dog) - ground[0, 0])).all()
    assert (ground == ground[0, 0]).all()
    assert np.ptp(void) == np.ptp(ground) == 0
    assert has(pixels[80:], dog)
    assert not has(pixels[80:], cat)
    named = drawn("mask", {"image": GREY, "mask": mask}, {"mask": ["background", "cat", "a dog with a long name"]})
    assert named.shape[0] > pixels.shape[0]  # its name takes two lines
    assert drawn("instance", {"instance": mask}).shape[1] == 80  # without an image, on grey


def test_boxes_are_drawn_where_they_are_and_have_names():
    boxes = np.array([[2, 1, 6, 5], [0, 0, 0, 0]])
    pixels = drawn("boxes", {"image": GREY, "boxes": boxes, "object_tags": ["cat", ""]})
    red = colours(1)[0]
    rows, columns = np.nonzero((pixels[:80] == red).all(axis=-1))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (20, 10, 59, 49)
    assert has(pixels[80:], red)
    assert not has(pixels[80:], colours(2)[1])  # nothing is said of a box that is empty
    one = drawn("target_box", {"image": GREY, "target_box": boxes[0], "expression": "the cat"})
    assert (one[:80] == pixels[:80]).all()


@pytest.mark.parametrize(("name", "none"), [("disparity", -1.0), ("depth", 0.0)])
def test_values_are_drawn_in_colours_with_their_scale(name, none):
    values = np.linspace(1, 5, 64).reshape(8, 8)
    values[0, 0] = none
    pixels = drawn(name, {name: values})
    assert (pixels[:9, :9] == 210).all()
    bright = pixels[:80].sum(axis=-1)[5::10, 5::10].ravel()[1:]
    assert (np.diff(bright) >= -20).all()  # viridis: from dark to light
    assert bright[-1] > 2 * bright[0]
    assert has(pixels[80:], pixels[75, 75], within=10)  # the scale ends in the colour of the largest
    assert drawn(name, {name: np.full((8, 8), none)})[:80].min() == 210


def test_what_is_true_is_marked():
    there = np.zeros((8, 8), bool)
    there[:, :2] = True
    pixels = drawn("occluded", {"image": GREY, "occluded": there})
    red = pixels[..., 0] - pixels[..., 1]
    assert (red[:80, :20] > 50).all()
    assert (red[:80, 20:80] == 0).all()


def test_a_clip_is_a_strip_of_frames_with_its_events():
    clip = np.stack([np.full((8, 8, 3), (0, 30 * i, 90), np.uint8) for i in range(8)])
    shades = [tuple(frame[0, 0].tolist()) for frame in clip]
    told_of = drawn("clip", {"clip": clip, "story": ["it brightens", "it brightens more"]})
    assert [has(told_of, shade) for shade in shades] == [True, False, False, True, True, False, False, True]
    plain = drawn("clip", {"clip": clip})
    assert all(has(plain, shade) for shade in shades)
    assert plain.shape[1] == 4 * 80 + 18


def test_a_mesh_fills_its_room():
    cube = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    faces = [[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]]
    pixels = drawn("mesh", {"mesh": SimpleNamespace(vertices=cube, faces=faces)})[:80]
    rows = np.flatnonzero((pixels < 250).any(axis=(1, 2)))
    assert rows.max() - rows.min() > 70
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 3  # faces are lit differently


def test_regions_stand_over_their_names_and_empty_ones_are_left_out():
    crops = np.zeros((3, 2, 2, 3), np.uint8)
    crops[0], crops[2] = (0, 90, 0), (0, 0, 90)
    pixels = drawn("regions", {"regions": crops, "object_tags": ["cat", "", "dog"]})
    assert has(pixels[:37, :37], (0, 90, 0))
    assert has(pixels[:37, 43:], (0, 0, 90))
    assert drawn("regions", {"regions": crops[1:2]}).min() == 255


def test_every_drawing_takes_the_columns_that_it_looks_at():
    assert set(BESIDE) <= set(DRAWINGS)
    image = fitted(np.zeros((10, 40, 3), np.uint8), (80, 80))
    assert image.size == (80, 20)


def test_words_are_never_cut():
    face = font()
    text = "the quick brown fox jumps over the lazy dog and is never seen again " * 4
    for width in (60, 100, 160):
        lines = wrapped(text, width, face, most=99)
        assert " ".join(lines) == text.strip()
        assert max(map(face.getlength, lines)) <= width
        short = wrapped(text, width, face, most=2)
        assert len(short) == 2
        assert short[-1].endswith(" …")
        assert set(" ".join(short).split()) <= {*text.split(), "…"}
        assert max(map(face.getlength, short)) <= width
    long = wrapped("an " + "x" * 200, 60, face, most=99)
    assert "".join(long) == "an" + "x" * 200  # there is no place to part it
    assert wrapped("", 60, face) == [""]
    assert written("a b", 60).size == (60, 16)
    entries = [(INK, name) for name in ("one", "two", "three four five six seven eight")]
    assert legend(entries, 90).width <= 90


def test_texts_say_classes_by_their_names():
    sample = {"question": "is it red", "answer": 1, "caption": ["a", "b"], "height": np.arange(3)}
    classes = {"answer": ["no", "yes"]}
    assert text_lines(sample, ["question", "answer"], classes) == [("", "is it red: yes")]
    assert text_lines(sample, ["caption"], classes) == [("", "a"), ("", "b")]
    assert text_lines(sample, ["answer", "height"], classes) == [("answer", "yes"), ("height", "[0, 1, 2]")]
    assert spelled(np.zeros((9, 9))) == "float64 9 x 9"
    assert spelled(("a", "b")) == "a | b"


def test_a_sheet_has_even_margins():
    samples = [{"image": np.full((8, 8, 3), 10 * i, np.uint8), "label": i} for i in range(8)]
    page = sheet(samples, ["image", "label"], {"label": [*"abcdefgh"]})
    ink = np.asarray(page.convert("L")) < 250
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    assert rows[0] == columns[0] == page.width - 1 - columns[-1] == 16
    assert page.width == 6 * 170 - 10 + 32
    view = np.zeros((10, 60, 3), np.uint8)
    wide = sheet([{"image": view, "right": view}], ["image", "right"], {})
    assert wide.width > 2 * 300
    assert isinstance(sheet(samples, ["label"], {}), Image.Image)
