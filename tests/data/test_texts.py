"""Texts in addressed batches: every row where it belongs, every token scored once, the same on any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.data.columns.splits import split_off
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.order import BucketBatches
from tfcli.data.module import DataModule
from tfcli.data.views.streams import Windows
from tfcli.errors import ConfigError, DataError
from tfcli.text.tokenizer import make

TEXT = "Ein Hund läuft.\nZwei Hunde laufen.\n" * 40


class Given:
    def __init__(self, **splits):
        self.splits = splits

    def load(self, request):
        return LoadedTables(self.splits)


def prepared(source=None, *, longest=16, view=None, **settings_):
    settings_ = {"val_fraction": 0.05, "test_fraction": 0.05} | settings_
    data = DataModule(source or Given(train={"text": [TEXT]}), name="given", columns=["text"], **settings_)
    data.serve(view or Windows(), ["text"])
    data.encode(make("chars", texts=data.texts("train")), longest=longest)
    return data


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(8, 80), st.integers(1, 3), st.integers(0, 3))
def test_buckets_hold_each_sample_once_and_keep_their_number(lengths, tokens, world, epoch):
    lengths = np.array(lengths)
    ranks = [BucketBatches(lengths, tokens=tokens, seed=3, rank=r, world=world) for r in range(world)]
    for sampler in ranks:
        sampler.set_epoch(epoch)
    dealt = [[list(a.indices) for a in sampler] for sampler in ranks]
    assert len({len(batches) for batches in dealt}) == 1 == len({len(sampler) for sampler in ranks})
    batches = [b for rank in dealt for b in rank]
    assert all(len(b) == 1 or len(b) * lengths[b].max() <= tokens for b in batches)
    seen = {tuple(sorted(b)) for b in batches}  # batches that fill up the last round come twice
    assert sorted(i for b in seen for i in b) == list(range(len(lengths)))


def test_buckets_go_on_where_they_stopped():
    lengths = np.random.default_rng(0).integers(1, 20, 100)
    whole = BucketBatches(lengths, tokens=64, seed=1)
    whole.set_epoch(2)
    rest = BucketBatches(lengths, tokens=64, seed=1, start_epoch=2, start_batch=5)
    for a, b in zip(list(whole)[5:], list(rest), strict=True):
        assert a.number == b.number
        np.testing.assert_array_equal(a.indices, b.indices)


def test_evaluation_scores_every_character_once():
    data = prepared(val_fraction=0.2)
    batches = [data._sets["test"].samples.batch(np.arange(len(data._sets["test"])), seed=0, epoch=0)]
    ends = data.rows["test"]["text"][0]
    assert sum(int(b["chars"].sum()) for b in batches) == len(ends)
    assert sum(int(b["bytes"].sum()) for b in batches) == len(ends.encode())
    assert sum(int(b["words"].sum()) for b in batches) == len(ends.split())
    spelled = "".join(data.tokenizer.decode([t for t in row if t >= 0]) for row in batches[0]["target"].tolist())
    assert spelled == ends
    assert data.rows["train"]["text"][0] + data.rows["val"]["text"][0] + ends == TEXT


def test_training_windows_move_with_the_epoch_alone():
    stream = prepared()._sets["train"].samples
    rows = np.arange(len(stream.lengths))
    one, same, other = (stream.batch(rows, seed=s, epoch=e)["tokens"] for s, e in ((0, 0), (0, 0), (0, 1)))
    assert (one == same).all()
    assert (one != other).any()
    batch = stream.batch(rows[:3], seed=0, epoch=1)
    assert (batch["tokens"][:, 1:] == batch["target"][:, :-1]).all()


def test_documents_are_padded_and_cut():
    rows = {"text": ["ab", "abcdefghij", "a"]}
    data = prepared(Given(train=rows, val=rows, test=rows), view=Windows(packed=False), longest=5)
    batch = data._sets["train"].samples.batch(np.array([0, 2]), seed=0, epoch=0)
    assert batch["target"].tolist()[1][-1] == -100
    assert batch["chars"].tolist() == [2, 1]
    assert any("3 texts of train are longer than 5 tokens" in n or "1 of 3 texts of train" in n for n in data.notes)
    with pytest.raises(DataError, match="truncate=false forbids"):
        prepared(Given(train=rows, val=rows, test=rows), view=Windows(packed=False), longest=5, truncate=False)


def test_texts_are_grouped_by_length_unless_windows_have_one_length():
    rows = {"text": ["a" * (1 + i * 37 % 90) for i in range(200)]}

    def order(view, **settings_) -> list[list[int]]:
        given = Given(train=rows, val=rows, test=rows)
        data = prepared(given, view=view, longest=100, batch_size=8, workers=0, **settings_)
        return [address.indices.tolist() for address in data.train_dataloader().sampler]

    def padding(batches: list[list[int]]) -> float:
        lengths = [[len(rows["text"][i]) for i in batch] for batch in batches]
        return 1 - len("".join(rows["text"])) / sum(len(batch) * max(batch) for batch in lengths)

    apart = Windows(packed=False)

    def sizes(batches: list[list[int]]) -> list[int]:
        return [sum(len(rows["text"][i]) for i in batch) for batch in batches]

    grouped, plain = order(apart, bucket="auto"), order(apart)
    assert padding(grouped) < 0.07 < 0.3 < padding(plain)
    assert len(grouped) == len(plain)
    assert np.ptp(sizes(grouped)) < np.ptp(sizes(plain))  # the loss is a mean over tokens: batches have equal numbers
    assert padding(order(apart, bucket="auto", batch_tokens=400)) < 0.05  # sorted by `batch_tokens` alone
    assert order(Windows(), bucket="auto") == order(Windows())


def test_rows_are_carved_without_overlap():
    rows = {"text": [f"row {i}" for i in range(100)]}
    kept, taken, said = split_off(rows, 0.1, seed=0, to="val")
    assert len(taken["text"]) == 10
    assert set(kept["text"]) | set(taken["text"]) == set(rows["text"])
    assert "10 of 100 rows" in said


def test_slips_are_named():
    with pytest.raises(ConfigError, match=r"`data\.max_length` is 20, but the model has positions for 16"):
        prepared(max_length=20)
    with pytest.raises(ConfigError, match=r"`data\.bucket=8` groups .* set one of them only"):
        prepared(bucket=8, batch_tokens=256)
    with pytest.raises(ConfigError, match="Did you mean `test_2017`"):
        prepared(Given(train={"text": [TEXT]}, test_2017={"text": ["a"]}), test_split="test_2018")
    with pytest.raises(DataError, match="less than one window"):
        prepared(Given(train={"text": ["short\n"]}), longest=64, val_fraction=0.0, test_fraction=0.0)


def test_questions_about_one_context_stay_together():
    rows = {"question": [f"{i}?" for i in range(60)], "context": [f"text {i // 4 % 11}" for i in range(60)]}
    kept, taken, _said = split_off(rows, 0.2, seed=0, to="val")
    assert not set(kept["context"]) & set(taken["context"])
    assert 12 <= len(taken["question"]) <= 20
    assert sorted(kept["question"] + taken["question"]) == sorted(rows["question"])
