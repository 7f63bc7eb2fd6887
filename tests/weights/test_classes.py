"""Whose names the classes of a checkpoint have."""

from __future__ import annotations

import pytest

from tfcli.weights.classes import agree, imagenet, listed, no_choice, stated


def test_names_that_files_state() -> None:
    assert stated({"id2label": {"1": "dog", "0": "cat", "10": "x"}}) == ()  # not one for each output
    assert stated({"id2label": {"1": "dog", "0": "cat"}}) == ("cat", "dog")
    assert stated({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}) == ()  # transformers writes this for no names
    assert stated({"architecture": "vit", "label_names": ["a", "b"]}) == ("a", "b")
    assert stated({"pretrained_cfg": {"label_names": ["a", "b"]}}) == ("a", "b")
    assert stated({}) == ()


@pytest.mark.parametrize(
    ("theirs", "ours", "same"),
    [
        (["tench, Tinca tinca", "goldfish"], ["tench", "Goldfish"], True),
        (["0", "1"], ["0 - zero", "1 - one"], True),
        (["Abyssinian_cat"], ["abyssinian"], True),
        (["NEGATIVE", "POSITIVE"], ["negative", "positive"], True),
        (["cat", "dog"], ["dog", "cat"], False),
        (["cat", "dog"], ["cat", "horse"], False),
        (["cat"], ["cat", "dog"], False),
        ([str(i) for i in range(1000)], [f"n{i:08}" for i in range(1000)], True),
    ],
)
def test_lists_that_name_the_same(theirs: list[str], ours: list[str], same: bool) -> None:
    assert agree(theirs, ours) is same


def test_what_a_head_answers_in_place_of_a_class() -> None:
    assert "yes or no to each label" in no_choice({"problem_type": "multi_label_classification"})
    assert "numbers" in no_choice({"problem_type": "regression", "id2label": {"0": "x", "1": "y"}})
    assert "one number" in no_choice({"id2label": {"0": "age"}})
    assert no_choice({"problem_type": "single_label_classification", "id2label": {"0": "a", "1": "b"}}) == ""
    assert no_choice({"problem_type": None}) == no_choice({}) == ""


def test_imagenets_names() -> None:
    names = imagenet()
    assert (len(names), names[0], names[284]) == (1000, "tench", "Siamese cat")
    assert listed(names) == "tench, goldfish, great white shark, ... (1,000)"
