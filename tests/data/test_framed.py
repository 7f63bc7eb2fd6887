"""Labelled texts in their frames: marks, segments, tags on first pieces, answers found again in overlapping windows."""

from __future__ import annotations

import numpy as np
import pytest

from tfcli.data.views.framed import Choices, Labelled, Spans, Tagged
from tfcli.errors import ConfigError
from tfcli.text.frames import DELIMITER, EXTRACT, START, Frame
from tfcli.text.tokenizer import Tokenizer, make

CORPUS = ["the cat sat on the mat and the dog ran unbelievably fast", "where did the cat sit", "Paris is in France"] * 3


@pytest.fixture(scope="module")
def pieces() -> Tokenizer:
    return make("wordpiece", texts=CORPUS, vocab_size=60, lower=True)


def test_pairs_have_marks_and_segments(pieces):
    rows = {"text": ["the cat", "the dog ran"], "pair": ["sat", "fast"], "label": [1, 0]}
    encoded = Labelled().encode(rows, pieces, length=None, train=True)
    batch = encoded.batch(np.array([0, 1]), seed=0, epoch=0)
    first = batch["tokens"][0][batch["valid"][0]].tolist()
    assert first[0] == pieces.cls_id
    assert first.count(pieces.sep_id) == 2
    assert batch["segments"][0].tolist()[: len(first)] == [0] * (first.index(pieces.sep_id) + 1) + [1] * (
        len(first) - first.index(pieces.sep_id) - 1
    )
    assert batch["label"].tolist() == [1, 0]
    assert pieces.decode(first) == "the cat sat"


def test_the_longer_text_of_a_pair_is_cut_first(pieces):
    frame = Frame(pieces, "cls", 10)
    framed = frame.pair(list(range(50, 70)), [7, 8])
    assert len(framed.ids) == 10
    assert framed.ids[framed.second[0] : framed.second[1]] == [7, 8]
    assert frame.cut == 1
    assert len(frame.pair([1, 2], list(range(20))).ids) == 10


def test_a_pair_may_be_read_in_both_orders(pieces):
    rows = {"text": ["the cat"], "pair": ["the dog"], "label": [1]}
    batch = Labelled(framing="start", both_orders=True).encode(rows, pieces, length=16, train=True).batch(
        np.array([0]), seed=0, epoch=0
    )  # fmt: skip
    one, other = batch["tokens"][0].tolist()
    assert one[0] == other[0] == START
    assert one[-1] == other[-1] == EXTRACT
    cut = one.index(DELIMITER)
    assert other == [START, *one[cut + 1 : -1], DELIMITER, *one[1:cut], EXTRACT]
    assert "segments" not in batch
    with pytest.raises(ConfigError, match="both_orders"):
        Labelled(both_orders=True)


def test_choices_are_sequences_of_one_sample(pieces):
    rows = {"context": ["the cat"], "choices": [["sat", "ran fast", "is in France"]], "label": [2]}
    batch = Choices().encode(rows, pieces, length=16, train=True).batch(np.array([0]), seed=0, epoch=0)
    assert batch["tokens"].shape[:2] == (1, 3)
    assert batch["valid"].sum(-1).unique().numel() > 1


def test_first_pieces_carry_the_tags(pieces):
    words, tags = ["Paris", "unbelievably", "in", "France"], [3, 0, 0, 3]
    encoded = Tagged().encode({"words": [words], "tags": [tags]}, pieces, length=64, train=True)
    batch = encoded.batch(np.array([0]), seed=0, epoch=0)
    target = batch["target"][0]
    assert target[target >= 0].tolist() == tags
    assert len(target) > len(words) + 2  # some word is more than one piece
    assert target[0] == target[-1] == -100


@pytest.mark.parametrize("length", [None, 24])
def test_answers_are_found_again_in_every_window_that_holds_them(pieces, length):
    context = "the dog ran and the cat sat on the mat " * 3 + "Paris is in France and the dog ran"
    answer = {"text": "France", "start": context.index("France")}
    rows = {"id": ["q"], "question": ["where is Paris"], "context": [context], "answers": [[answer]]}
    encoded = Spans(stride=5).encode(rows, pieces, length=length, train=True)
    batch = encoded.batch(np.arange(len(encoded.lengths)), seed=0, epoch=0)
    assert (len(encoded.lengths) > 1) == (length is not None)
    owned = set()
    for i in range(len(batch["start"])):
        begin, end = int(batch["start"][i]), int(batch["end"][i])
        if begin:
            low, high = batch["offsets"][i, begin, 0], batch["offsets"][i, end, 1]
            assert context[int(low) : int(high)] == "France"
        owned |= {tuple(span) for span in batch["offsets"][i][batch["inside"][i]].tolist()}
    assert int((batch["start"] > 0).sum()) >= 1
    assert sum(int(row.sum()) for row in batch["inside"]) == len(owned)  # each token in one window
    whole = pieces.encode_offsets([context])[0][1]
    assert owned == {tuple(span) for span in whole}


@pytest.mark.parametrize("stride", [3, 128])
@pytest.mark.parametrize("asked", ["where", "where did the cat sit " * 4])
def test_every_token_of_a_context_is_in_a_window_at_every_length(pieces, stride, asked):
    context = "the cat sat on the mat and the dog ran unbelievably fast " * 2
    whole = pieces.encode_offsets([context])[0][1]
    rows = {"id": ["q"], "question": [asked], "context": [context], "answers": [[]]}
    for length in range(5, len(whole) + 40):
        encoded = Spans(stride=stride).encode(rows, pieces, length=length, train=True)
        seen = [
            tuple(span)
            for inside, spans in zip(encoded.rows["inside"], encoded.rows["offsets"], strict=True)
            for owned, span in zip(inside, spans, strict=True)
            if owned
        ]
        assert sorted(seen) == sorted(whole), length  # each of them, and each once
        assert encoded.lengths.max() <= length
    with pytest.raises(ConfigError, match="max_length to 5"):
        Spans().encode(rows, pieces, length=4, train=True)


@pytest.mark.parametrize("said", [" in France ", "in France", "\u200bin France", "\u200b in France\u200b"])
@pytest.mark.parametrize("length", [64, 24])
def test_an_answer_is_found_with_outer_spaces_and_characters_of_no_width(pieces, said, length):
    context = f"the cat sat on the mat and Paris is {said} and the dog ran"
    rows = {"id": ["q"], "question": ["where"], "context": [context]}
    rows["answers"] = [[{"text": said, "start": context.index(said)}]]
    encoded = Spans(stride=2).encode(rows, pieces, length=length, train=True)
    found = {
        (int(spans[start][0]), int(spans[end][1]))
        for start, end, spans in zip(*(encoded.rows[name] for name in ("start", "end", "offsets")), strict=True)
        if start
    }
    begin = context.index("in France")
    assert found == {(begin, begin + len("in France"))}


def test_an_unanswered_question_points_at_the_first_token(pieces):
    rows = {"id": ["q"], "question": ["who"], "context": ["the cat sat"], "answers": [[]]}
    batch = Spans().encode(rows, pieces, length=None, train=True).batch(np.array([0]), seed=0, epoch=0)
    assert (int(batch["start"]), int(batch["end"])) == (0, 0)


def test_a_vocabulary_without_marks_is_refused():
    with pytest.raises(ConfigError, match="wordpiece"):
        Frame(make("chars", texts=["abc"]), "cls")
