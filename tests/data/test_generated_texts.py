"""Sets of text that are made: what they say is true, the same each time, and held-out things are held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.request import Request
from tfcli.data.common.rows import Columns
from tfcli.data.synthetic import stories, symbols
from tfcli.data.synthetic.generated import Generated
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.errors import ConfigError

TOYS = ("sentiment", "entailment", "similarity", "choice", "quotes", "names", "topics")
SETS = ["reversal", "number_words", "symbol_maps", *(f"toy_{name}" for name in TOYS)]
FEW = ("data.num_train=60", "data.num_val=20", "data.num_test=30")


def load(config: Any) -> LoadedTables:
    return build(config.source).load(Request(name=config.name, root=Path("nowhere"), facts=dict(config)))


def said(rows: Columns, names: Iterable[str]) -> set[str]:
    return {str(cells) for cells in zip(*(rows[name] for name in names if name != "id"), strict=True)}


def rows(maker: Any, count: int = 300, *, split: str = "test", **options: Any) -> Columns:
    return maker(0, split, np.arange(count), **options)


@pytest.mark.parametrize("name", SETS)
def test_rows_belong_to_seed_split_and_index(name: str) -> None:
    config = compose("data", [f"data={name}", *FEW]).config.data
    loaded = load(config)
    train, test = loaded.splits["train"], loaded.splits["test"]
    assert load(config) == loaded
    assert (loaded.counts["val"], loaded.counts["test"]) == (20, 30)
    assert 50 <= loaded.counts["train"] <= 60
    assert not said(train, train) & said(test, train)
    labels = {label for rows in loaded.splits.values() for label in rows.get("label", [])}
    assert all(0 <= label < len(loaded.classes.get("label", "four")) for label in labels)
    config.num_test = 40
    assert {column: cells[:30] for column, cells in load(config).splits["test"].items()} == test
    config.source.seed = 1
    assert load(config).splits["test"] != test


def test_strings_are_turned_round() -> None:
    found = rows(symbols.reversal, 4000)
    lengths = Counter(len(text.split()) for text in found["source"])
    assert sorted(lengths) == list(range(4, 13))
    assert min(lengths.values()) > 350
    for source, target in zip(found["source"], found["target"], strict=True):
        assert target.split() == source.split()[::-1]
    assert len({letter for text in found["source"] for letter in text.split()}) == 20
    with pytest.raises(ConfigError, match="must be in"):
        rows(symbols.reversal, shortest=5, longest=4)


def test_numbers_are_spelled_and_some_pairs_of_words_are_held_out() -> None:
    spelled = {0: "zero", 19: "nineteen", 42: "forty two", 300: "three hundred", 7_000: "seven thousand"}
    spelled |= {
        999_999: "nine hundred ninety nine thousand nine hundred ninety nine",
        100_010: "one hundred thousand ten",
    }
    assert {number: symbols.spelled(number) for number in spelled} == spelled
    usual, held = (rows(symbols.number_words, 2000, split=split) for split in ("train", "comp"))
    for found in (usual, held):
        for source, target in zip(found["source"], found["target"], strict=True):
            assert symbols.spelled(int(target.replace(" ", ""))) == source

    def pairs(texts: list[str]) -> set[tuple[str, str]]:
        words = [text.split() for text in texts]
        tens, ones = set(symbols.TENS[2:]), set(symbols.ONES[1:10])
        return {(a, b) for text in words for a, b in pairwise(text) if a in tens and b in ones}

    shown, asked = pairs(usual["source"]), pairs(held["source"])
    assert 4 <= len(asked - shown) <= 20
    assert all(pairs([text]) - shown for text in held["source"])
    assert {word for pair in asked for word in pair} == {word for pair in shown for word in pair}


def test_maps_hold_within_a_text_and_not_beyond() -> None:
    found = rows(symbols.symbol_maps, 200, keys=3, pairs=17)
    maps = []
    for text, source, label, shown in zip(*found.values(), strict=True):
        letters = text.split()
        pairs = list(zip(letters[::2], letters[1::2], strict=True))
        assert len(pairs) == 17
        one = dict(pairs)
        assert all(one[x] == y for x, y in pairs)
        assert len(one) <= 3
        assert pairs[-1] == (source, "ABCDEFGHIJKLMNOP"[label])
        assert [(d["source"], "ABCDEFGHIJKLMNOP"[d["label"]]) for d in shown] == pairs[:-1]
        maps.append(one)
    images = Counter(one["a"] for one in maps if "a" in one)
    assert len(images) > 8
    train = rows(symbols.symbol_maps, 200, split="train")
    assert set(train) == {"text"}
    assert {len(set(text.split()[::2])) for text in train["text"]} == set(range(1, 9))


def test_a_rule_decides_and_classes_are_even() -> None:
    for text, label in zip(*rows(stories.sentiment).values(), strict=True):
        praised = [("not" in clause.split()) != (clause.split()[-1] in stories.GOOD) for clause in text.split(" , ")]
        assert label == (sum(praised) >= 2)
    for text, pair, label in zip(*rows(stories.entailment).values(), strict=True):
        name, thing = pair.split()[0], pair.split()[-1]
        about = [fact for fact in text.split(" . ") if fact.split()[0] == name and fact.split()[-1] == thing]
        assert label == (1 if not about else 2 if "not" in about[0] else 0)
    for text, pair, label in zip(*rows(stories.similarity).values(), strict=True):
        giver = [words[0] if words[1] == "gave" else words[-1] for words in (text.split(), pair.split())]
        assert label == (giver[0] == giver[1])
    for context, choices, label in zip(*rows(stories.choice).values(), strict=True):
        thing = context.split()[-2]
        assert f"{choices[label]} has the {thing}" in context.split(" . ")[:-1]
    for maker, classes in (
        (stories.sentiment, 2),
        (stories.entailment, 3),
        (stories.similarity, 2),
        (stories.choice, 4),
    ):
        shares = np.bincount(rows(maker, 1000)["label"], minlength=classes) / 1000
        assert shares.min() > 0.75 / classes


def test_spans_tags_and_topics_are_where_they_are_said_to_be() -> None:
    for context, answers in zip(*(rows(stories.quotes)[name] for name in ("context", "answers")), strict=True):
        (answer,) = answers
        assert context[answer["start"] :].startswith(answer["text"])
        assert context.split(' " ')[1] == answer["text"]
    found = rows(stories.names, 1000)
    tags = Counter()
    for words, own in zip(found["words"], found["tags"], strict=True):
        assert len(words) == len(own)
        tags.update((word, stories.TAGS[tag]) for word, tag in zip(words, own, strict=True))
    assert min(tags["paris", "B-person"], tags["paris", "B-place"]) > 50
    for text in rows(stories.topics, 50)["text"]:
        lines = [set(line.split()) for line in text.split("\n")]
        assert len(lines) == 6
        assert sum(all(line & set(words) for line in lines) for words in stories.TOPICS.values()) == 1


def test_a_set_without_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`data\.num_val` must be at least 1"):
        Generated(symbols.reversal, splits={"train": 3, "val": 0})
