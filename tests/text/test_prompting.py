"""Rows put into words: what is shown, what is asked, and slips that are named."""

from __future__ import annotations

import pytest

from tfcli.errors import ConfigError
from tfcli.text.prompting import make_prompt

ROWS = [{"text": "a fine film", "label": 1}, {"text": "dull", "label": 0}]


def test_a_prompt_is_instruction_demonstrations_and_question():
    prompt = make_prompt(["text", "label"], ["bad", "good"], {"instruction": "Judge.", "labels": ["no", "yes"]})
    assert prompt.whole(ROWS[:1], ROWS[1]) == "Judge.\n\na fine film\nLabel: yes\n\ndull\nLabel:"
    assert prompt.right(ROWS[1]) == "no"
    assert list(prompt.candidates(ROWS[0])) == ["no", "yes"]


@pytest.mark.parametrize(
    ("row", "asked", "right"),
    [
        ({"source": "Hund", "target": "dog"}, "Hund =>", "dog"),
        ({"text": "a", "pair": "b", "label": 0}, "a\nb\nLabel:", "same"),
        ({"context": "It rains.", "question": "Does it?", "answers": [{"text": "yes", "start": 0}]},
         "It rains.\nQuestion: Does it?\nAnswer:", "yes"),
        ({"context": "He ran", "choices": [" home", " blue"], "label": 0}, "He ran", " home"),
    ],
)  # fmt: skip
def test_every_kind_of_row_has_its_question(row, asked, right):
    prompt = make_prompt(list(row), ["same", "other"] if "pair" in row else [], {})
    assert prompt.ask(row) == asked
    assert prompt.right(row) == right


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"question": "{sentence}?"}, "names `sentence`"),
        ({"labels": ["yes"]}, "1 words for 2 classes"),
        ({"instructions": "Judge."}, "Did you mean `instruction`"),
    ],
)
def test_slips_are_named(asked, said):
    with pytest.raises(ConfigError, match=said):
        make_prompt(["text", "label"], ["bad", "good"], asked)
